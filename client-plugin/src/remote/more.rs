//! What devices beside the plugin ask for, and who manages them: grants, receipts, the next record.

use super::{RemoteError, session::Session};
use backstop_protocol::{
    api::{self, AccountGrants},
    chunk::parse_ids,
    clock::UnixMillis,
    id::{ChunkId, SnapshotId},
    receipt::SignedReceipt,
    revocation::SignedRevocation,
};
use bytes::Bytes;
use reqwest::Method;
use std::time::Duration;

impl Session {
    /// The records from `from` on, as [`Session::records`] gives them, but once there is one: empty only where none came
    /// within [`api::WAIT_MAX_MS`].
    pub async fn next_records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        let wait = api::WAIT_MAX_MS;
        let path = format!("{}?from={from}&wait={wait}", api::RECORDS);
        self.page(&path, Duration::from_millis(wait)).await
    }

    /// The ids of a snapshot's chunks above `after`, ascending, at most [`api::CHUNKS_PAGE`]; no more than those is no more
    /// pages.
    pub async fn snapshot_chunks(
        &self,
        snapshot: SnapshotId,
        after: Option<ChunkId>,
    ) -> Result<Vec<ChunkId>, RemoteError> {
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        let path = format!("{}/{snapshot}/chunks{query}", api::SNAPSHOTS);
        let most = api::CHUNKS_PAGE * ChunkId::LEN;
        let page = self.call(Method::GET, &path, Bytes::new(), most).await?;
        let ids = parse_ids(&page, api::CHUNKS_PAGE).map_err(|error| self.nonsense(&error))?;
        // Whoever pages by them must come to an end.
        let ascends = ids.first().copied() > after && ids.is_sorted_by(|a, b| a < b);
        if ids.is_empty() || ascends {
            Ok(ids)
        } else {
            Err(self.nonsense(&"a snapshot's chunks out of order"))
        }
    }

    /// The account's grants, and below which serial none is valid.
    pub async fn account_grants(&self) -> Result<AccountGrants, RemoteError> {
        self.json(Method::GET, api::GRANTS, Bytes::new()).await
    }

    /// Raises the serial below which no grant of the account is valid.
    pub async fn revoke(&self, revocation: &SignedRevocation) -> Result<AccountGrants, RemoteError> {
        let body = serde_json::to_vec(revocation).map_err(|_| RemoteError::Key)?;
        self.json(Method::POST, api::REVOCATIONS, body.into()).await
    }

    /// What the server holds, under its own signature. The caller checks it.
    pub async fn receipt(&self) -> Result<SignedReceipt, RemoteError> {
        self.json(Method::GET, api::RECEIPT, Bytes::new()).await
    }
}
