//! A server that is asked again: a long download must not fail for one lost connection.

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
    problem::ProblemCode,
};
use bytes::Bytes;
use std::time::Duration;

/// Asks `server` again after each of `pauses`, as long as what went wrong may pass ([`RemoteError::is_passing`]) without
/// anybody making room on the server.
/// Every call of a restore may be repeated: reading changes nothing, and what is sent is named by its content.
pub struct Patient<'a, S> {
    server: &'a S,
    pauses: &'a [Duration],
}

impl<'a, S> Patient<'a, S> {
    /// Two minutes in all, per call.
    pub const PAUSES: &'static [Duration] = &[
        Duration::from_secs(1),
        Duration::from_secs(4),
        Duration::from_secs(15),
        Duration::from_secs(40),
        Duration::from_mins(1),
    ];

    /// `pauses` lie between the attempts: none, and each call is made once.
    #[must_use]
    pub fn new(server: &'a S, pauses: &'a [Duration]) -> Self {
        Self { server, pauses }
    }

    async fn insist<T, F>(&self, call: impl Fn() -> F) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        for pause in self.pauses {
            match call().await {
                Err(error) if error.is_passing() && !needs_room(&error) => {
                    tokio::time::sleep(*pause).await;
                }
                done => return done,
            }
        }
        call().await
    }
}

/// Whether it passes when somebody makes room, which no pause does.
fn needs_room(error: &RemoteError) -> bool {
    matches!(
        error.code(),
        Some(ProblemCode::StorageFull | ProblemCode::QuotaExceeded)
    )
}

impl<S: ChunkServer> ChunkServer for Patient<'_, S> {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        self.insist(|| self.server.locate(ids)).await
    }

    async fn put_pack(&self, pack: PackId, bytes: Bytes) -> Result<(), RemoteError> {
        self.insist(|| self.server.put_pack(pack, bytes.clone())).await
    }

    async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        self.insist(|| self.server.get_pack(pack, range)).await
    }

    async fn commit_snapshot(&self, commit: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        self.insist(|| self.server.commit_snapshot(commit)).await
    }
}

impl<S: BackupServer> BackupServer for Patient<'_, S> {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        self.insist(|| self.server.account()).await
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        self.insist(|| self.server.records(from)).await
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        self.insist(|| self.server.snapshots()).await
    }

    async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        self.insist(|| self.server.manifest(snapshot)).await
    }
}
