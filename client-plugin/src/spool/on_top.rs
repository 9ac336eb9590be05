//! A server with a spool on top: the backup as it will be once the spool is drained.

use super::{Entry, Spooled};
use crate::{
    remote::{BodyFile, RemoteError, Session},
    restore::BackupServer,
    snapshot::ChunkServer,
};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    id::{ChunkId, PackId, ServerKey, SnapshotId},
};
use bytes::Bytes;

/// A backup of which it can be said where it comes from.
pub trait Source: BackupServer {
    /// The server's URL.
    fn url(&self) -> &str;

    /// The server's key.
    fn server(&self) -> ServerKey;
}

impl Source for Session {
    fn url(&self) -> &str {
        Self::url(self)
    }

    fn server(&self) -> ServerKey {
        Self::server(self)
    }
}

/// A server, and the records behind its head that only a spool holds.
pub struct OnTop<S> {
    server: S,
    /// Behind the head that the server had.
    rest: Vec<Entry>,
}

impl<S: Source> OnTop<S> {
    /// Puts a spool on top of a server, and gives the account as it will be. A spool that does not go on from where the server's log
    /// ends is left out: nothing may be made of it.
    pub fn new(server: S, account: AccountState, spooled: Option<&Spooled>) -> (Self, AccountState) {
        let rest = spooled.and_then(|spooled| spooled.after(account.timeline, account.head).ok());
        let top = Self {
            server,
            rest: rest.unwrap_or_default().to_vec(),
        };
        let account = top.raise(account);
        (top, account)
    }

    fn raise(&self, account: AccountState) -> AccountState {
        match self.rest.last() {
            Some(last) => AccountState {
                head: last.head,
                head_received_at: None,
                ..account
            },
            None => account,
        }
    }
}

impl<S: Source> Source for OnTop<S> {
    fn url(&self) -> &str {
        self.server.url()
    }

    fn server(&self) -> ServerKey {
        self.server.server()
    }
}

impl<S: Source> BackupServer for OnTop<S> {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        Ok(self.raise(self.server.account().await?))
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        let behind = self.rest.iter().filter(|entry| entry.header.seq >= from);
        let first = self.rest.first().map_or(u64::MAX, |first| first.header.seq);
        if from >= first {
            return Ok(behind
                .map(|entry| (UnixMillis(0), entry.sealed.clone()))
                .collect());
        }
        let mut page = self.server.records(from).await?;
        // Whatever the server took meanwhile is the spool's own.
        let before = usize::try_from(first - from).unwrap_or(usize::MAX);
        page.truncate(before);
        Ok(page)
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        self.server.snapshots().await
    }

    async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        self.server.manifest(snapshot).await
    }
}

impl<S: Source> ChunkServer for OnTop<S> {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        self.server.locate(ids).await
    }

    async fn put_pack(&self, pack: PackId, bytes: Bytes) -> Result<(), RemoteError> {
        self.server.put_pack(pack, bytes).await
    }

    async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        self.server.get_pack(pack, range).await
    }

    async fn commit_snapshot(&self, commit: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        self.server.commit_snapshot(commit).await
    }
}
