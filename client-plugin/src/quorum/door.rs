//! One of a node's servers: how it is reached, and as whom.

use crate::{
    directory::ServerConfig,
    node::Ambient,
    remote::{Connect, Identity, RemoteError, Session},
    restore::BackupServer,
};
use backstop_protocol::{
    api::{AccountState, Appended},
    session::WriterClaim,
};
use bytes::Bytes;
use std::{future::Future, sync::Arc};

/// Opens sessions with one server. [`ServerDoor`] is the one; tests have one in memory.
pub trait Door: Clone + Send + Sync + 'static {
    /// What it opens.
    type Session: Member;

    /// The server's URL.
    fn url(&self) -> &str;

    /// See [`Session::open`].
    fn open(
        &self,
        claim: Option<WriterClaim>,
    ) -> impl Future<Output = Result<(Self::Session, AccountState), RemoteError>> + Send;
}

/// An open session with one of several servers. [`Session`] is the one; tests have one in memory.
pub trait Member: BackupServer + Send + Sync + 'static {
    /// See [`Session::append`].
    fn append(&self, sealed: Bytes) -> impl Future<Output = Result<Appended, RemoteError>> + Send;
}

impl Member for Session {
    async fn append(&self, sealed: Bytes) -> Result<Appended, RemoteError> {
        Self::append(self, sealed).await
    }
}

/// The door of a real server.
#[derive(Clone)]
pub struct ServerDoor {
    /// The server.
    pub server: ServerConfig,
    /// How it is reached.
    pub connect: Connect,
    /// As whom.
    pub identity: Arc<Identity>,
    /// Time and randomness.
    pub ambient: Ambient,
}

impl Door for ServerDoor {
    type Session = Session;

    fn url(&self) -> &str {
        &self.server.url
    }

    async fn open(&self, claim: Option<WriterClaim>) -> Result<(Session, AccountState), RemoteError> {
        let Ambient { clock, rng } = self.ambient.clone();
        let identity = Arc::clone(&self.identity);
        Session::open(
            &self.server.url,
            &self.connect,
            self.server.key,
            identity,
            claim,
            clock,
            rng,
        )
        .await
    }
}
