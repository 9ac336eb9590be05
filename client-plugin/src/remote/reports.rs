//! What a node says of its backup, and its files beside the database (SPEC 4.5, 6.7, 7.2).

use super::{RemoteError, session::Session};
use backstop_protocol::{
    api::{self, AccountState, ProofReport},
    clock::UnixMillis,
    removal::SignedRemoval,
};
use bytes::Bytes;
use reqwest::Method;

impl Session {
    /// Reports what a comparison of the backup with the node's own database found.
    pub async fn report_proof(&self, report: ProofReport) -> Result<AccountState, RemoteError> {
        let body = serde_json::to_vec(&report).map_err(|_| RemoteError::Key)?;
        self.json(Method::POST, api::PROOFS, body.into()).await
    }

    /// Lets go of what a comparison that failed holds.
    pub async fn accept_proof(&self) -> Result<AccountState, RemoteError> {
        self.json(Method::POST, api::PROOFS_ACCEPTED, Bytes::new()).await
    }

    /// Has the server ask for a roll-up with the next append.
    pub async fn order_roll_up(&self) -> Result<AccountState, RemoteError> {
        self.json(Method::POST, api::ROLL_UP, Bytes::new()).await
    }

    /// Says the node's own word on the removal of its backup.
    pub async fn ask_removal(&self, signed: &SignedRemoval) -> Result<AccountState, RemoteError> {
        let body = serde_json::to_vec(signed).map_err(|_| RemoteError::Key)?;
        self.json(Method::POST, api::REMOVAL, body.into()).await
    }

    /// Stores the node's files beside its database, sealed; success means that they are durable there.
    pub async fn put_files(&self, sealed: Bytes) -> Result<(), RemoteError> {
        self.call(Method::PUT, api::FILES, sealed, api::JSON_MAX)
            .await
            .map(|_| ())
    }

    /// The sealed files as they were at a time, by the server's clock, or the newest.
    pub async fn files(&self, at: Option<UnixMillis>) -> Result<Bytes, RemoteError> {
        let path = match at {
            None => api::FILES.to_owned(),
            Some(at) => format!("{}?at={}", api::FILES, at.0),
        };
        self.call(Method::GET, &path, Bytes::new(), api::FILES_MAX).await
    }
}
