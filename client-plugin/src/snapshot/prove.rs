//! What was sent is fetched again and opened, before anything relies on it.

use super::{
    fetch::{FetchError, Fetcher, Pieces},
    index::{Index, Piece},
    server::ChunkServer,
};
use crate::keys::Keys;
use backstop_protocol::{
    chunk::ChunkKind,
    id::{ChunkId, SnapshotId},
};

/// Fetches `pieces` of a snapshot and checks them as a restore would: seal, length, and that each is what its id says.
/// Nothing is kept.
pub(super) async fn prove(
    server: &impl ChunkServer,
    keys: &Keys,
    snapshot: SnapshotId,
    index: &Index,
    pieces: &[Piece],
) -> Result<(), FetchError> {
    let mut fetcher = Fetcher::new(server, keys, snapshot);
    for kind in [ChunkKind::List, ChunkKind::Data] {
        let of_kind: Vec<&Piece> = pieces.iter().filter(|piece| piece.kind() == kind).collect();
        let ids: Vec<ChunkId> = of_kind.iter().map(|piece| piece.id).collect();
        let len = |at: u32| of_kind.get(at as usize).map_or(0, |piece| index.piece_len(piece));
        let wanted = Pieces {
            kind,
            ids: &ids,
            len: &len,
        };
        fetcher
            .fetch(&wanted, &mut |_, _| Ok(()))
            .await
            .map_err(|error| error.at_place(|at| of_kind.get(at as usize).map_or(at, |piece| piece.at)))?;
    }
    Ok(())
}
