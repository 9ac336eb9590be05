//! One server, over HTTP (SPEC 4.3, 4.4, 7).

mod error;

pub use error::RemoteError;

use backstop_protocol::{
    api::{AccountState, Appended, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    id::{ChunkId, PackId, SnapshotId},
    snapshot::SnapshotCommit,
};
use bytes::Bytes;

/// An open session with one server.
pub struct Session {}

#[expect(clippy::unused_async, clippy::todo, reason = "signatures first")]
impl Session {
    /// The account as the server has it now.
    pub async fn account(&self) -> Result<AccountState, RemoteError> {
        todo!()
    }

    /// Appends one sealed record; success means that it is durable there (I1).
    pub async fn append(&self, _sealed: Bytes) -> Result<Appended, RemoteError> {
        todo!()
    }

    /// One page of records from `from` on, oldest first, each with the time at which the server received it;
    /// empty where there is none.
    pub async fn records(&self, _from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        todo!()
    }

    /// Where chunks lie, in the order asked for; at most [`backstop_protocol::api::LOCATE_MAX`] ids a call.
    pub async fn locate(&self, _ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        todo!()
    }

    /// Stores one pack; success means that it is durable there.
    pub async fn put_pack(&self, _pack: PackId, _bytes: Bytes) -> Result<(), RemoteError> {
        todo!()
    }

    /// `len` bytes of a pack from `offset` on; `None` for the whole of it.
    pub async fn get_pack(&self, _pack: PackId, _range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        todo!()
    }

    /// Makes a snapshot whose chunks are all there the newest one.
    pub async fn commit_snapshot(&self, _commit: &SnapshotCommit) -> Result<SnapshotInfo, RemoteError> {
        todo!()
    }

    /// The complete snapshots, newest first.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        todo!()
    }

    /// The sealed manifest of a snapshot.
    pub async fn manifest(&self, _snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        todo!()
    }
}
