//! A server whose answers are counted: what a restore costs the line.

use super::server::BackupServer;
use crate::{
    remote::{BodyFile, RemoteError},
    snapshot::ChunkServer,
};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    id::{ChunkId, PackId, SnapshotId},
};
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes of records, packs and manifests that `server` gave.
pub struct Counted<'a, S> {
    server: &'a S,
    bytes: AtomicU64,
}

impl<'a, S> Counted<'a, S> {
    /// Nothing came yet.
    #[must_use]
    pub fn new(server: &'a S) -> Self {
        Self {
            server,
            bytes: AtomicU64::new(0),
        }
    }

    /// Bytes that came so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, len: usize) {
        self.bytes
            .fetch_add(u64::try_from(len).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl<S: ChunkServer> ChunkServer for Counted<'_, S> {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        self.server.locate(ids).await
    }

    async fn put_pack(&self, pack: PackId, bytes: Bytes) -> Result<(), RemoteError> {
        self.server.put_pack(pack, bytes).await
    }

    async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        let bytes = self.server.get_pack(pack, range).await?;
        self.count(bytes.len());
        Ok(bytes)
    }

    async fn commit_snapshot(&self, commit: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        self.server.commit_snapshot(commit).await
    }
}

impl<S: BackupServer> BackupServer for Counted<'_, S> {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        self.server.account().await
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        let page = self.server.records(from).await?;
        self.count(page.iter().map(|(_, sealed)| sealed.len()).sum());
        Ok(page)
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        self.server.snapshots().await
    }

    async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        let sealed = self.server.manifest(snapshot).await?;
        self.count(sealed.len());
        Ok(sealed)
    }
}
