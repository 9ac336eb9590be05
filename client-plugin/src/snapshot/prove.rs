//! What was sent is fetched again and opened, before anything relies on it.

use super::{
    fetch::{FetchError, Fetcher},
    index::Piece,
    server::ChunkServer,
};
use crate::keys::Keys;
use backstop_protocol::{chunk::ChunkKind, id::SnapshotId};

/// Fetches `pieces` of a snapshot of a database of that many bytes and checks them as a restore would: seal, length, and that each is what its id says.
/// Nothing is kept. To be called with few pieces: those of one pack, or a sample.
pub(super) async fn prove(
    server: &impl ChunkServer,
    keys: &Keys,
    snapshot: SnapshotId,
    database_len: u64,
    pieces: &[Piece],
) -> Result<(), FetchError> {
    let mut fetcher = Fetcher::small(server, keys, snapshot, database_len)?;
    for kind in [ChunkKind::List, ChunkKind::Data] {
        let of_kind = pieces.iter().filter(|piece| piece.kind() == kind);
        fetcher.fetch_some(kind, of_kind).await?;
    }
    Ok(())
}
