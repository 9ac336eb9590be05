//! What a restore asks of a server.

use crate::{
    remote::{RemoteError, Session},
    snapshot::ChunkServer,
};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    clock::UnixMillis,
    id::SnapshotId,
};
use bytes::Bytes;
use std::future::Future;

/// A server that keeps a node's backup. [`Session`] is the one; tests have one in memory.
pub trait BackupServer: ChunkServer {
    /// See [`Session::account`].
    fn account(&self) -> impl Future<Output = Result<AccountState, RemoteError>> + Send;

    /// See [`Session::records`].
    fn records(
        &self,
        from: u64,
    ) -> impl Future<Output = Result<Vec<(UnixMillis, Bytes)>, RemoteError>> + Send;

    /// See [`Session::snapshots`].
    fn snapshots(&self) -> impl Future<Output = Result<Vec<SnapshotInfo>, RemoteError>> + Send;

    /// See [`Session::manifest`].
    fn manifest(&self, snapshot: SnapshotId) -> impl Future<Output = Result<Bytes, RemoteError>> + Send;
}

impl BackupServer for Session {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        Self::account(self).await
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        Self::records(self, from).await
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        Self::snapshots(self).await
    }

    async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        Self::manifest(self, snapshot).await
    }
}
