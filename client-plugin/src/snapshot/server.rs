//! What a snapshot asks of a server.

use crate::remote::{BodyFile, RemoteError, Session};
use backstop_protocol::{
    api::SnapshotInfo,
    chunk::ChunkPlace,
    id::{ChunkId, PackId},
};
use bytes::Bytes;
use std::future::Future;

/// A server that keeps chunks. [`Session`] is the one; tests have one in memory.
pub trait ChunkServer: Sync {
    /// See [`Session::locate`].
    fn locate(
        &self,
        ids: &[ChunkId],
    ) -> impl Future<Output = Result<Vec<Option<ChunkPlace>>, RemoteError>> + Send;

    /// See [`Session::put_pack`].
    fn put_pack(&self, pack: PackId, bytes: Bytes) -> impl Future<Output = Result<(), RemoteError>> + Send;

    /// See [`Session::get_pack`].
    fn get_pack(
        &self,
        pack: PackId,
        range: Option<(u32, u32)>,
    ) -> impl Future<Output = Result<Bytes, RemoteError>> + Send;

    /// See [`Session::commit_snapshot`].
    fn commit_snapshot(
        &self,
        commit: &BodyFile,
    ) -> impl Future<Output = Result<SnapshotInfo, RemoteError>> + Send;
}

impl ChunkServer for Session {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        Self::locate(self, ids).await
    }

    async fn put_pack(&self, pack: PackId, bytes: Bytes) -> Result<(), RemoteError> {
        Self::put_pack(self, pack, bytes).await
    }

    async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        Self::get_pack(self, pack, range).await
    }

    async fn commit_snapshot(&self, commit: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        Self::commit_snapshot(self, commit).await
    }
}
