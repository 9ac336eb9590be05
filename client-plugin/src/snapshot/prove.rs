//! What was sent is fetched again and opened, before anything relies on it.

use super::{
    fetch::FetchError,
    index::Piece,
    located::{Located, Opener, Run},
    server::ChunkServer,
};
use backstop_protocol::{
    api::LOCATE_MAX,
    id::{ChunkId, PackId},
};
use std::collections::BTreeMap;

/// Fetches `pieces` and checks them as a restore would: seal, length, and that each is what its id says. Nothing is kept. To be
/// called with few pieces: those of one pack, or a sample.
pub(super) async fn prove(
    server: &impl ChunkServer,
    opener: &Opener,
    pieces: &[Piece],
) -> Result<(), FetchError> {
    let mut sorted = pieces.to_vec();
    sorted.sort_unstable();
    for some in sorted.chunks(LOCATE_MAX) {
        match fetch_once(server, opener, some).await {
            // The server may have gathered chunks into another pack since they were located (SPEC 6.6).
            Err(error) if error.is_gone() => fetch_once(server, opener, some).await?,
            done => done?,
        }
    }
    Ok(())
}

async fn fetch_once(server: &impl ChunkServer, opener: &Opener, pieces: &[Piece]) -> Result<(), FetchError> {
    let ids: Vec<ChunkId> = pieces.iter().map(|piece| piece.id).collect();
    let places = server.locate(&ids).await?;
    let mut packs = BTreeMap::<PackId, Vec<Located>>::new();
    for (piece, place) in pieces.iter().zip(places) {
        let kind = piece.kind();
        let place = opener.place((kind, piece.at), place)?;
        packs.entry(place.pack).or_default().push(Located {
            start: place.offset,
            len: place.len,
            kind,
            id: piece.id,
            places: vec![piece.at],
        });
    }
    for (pack, chunks) in packs {
        for run in Run::all(pack, chunks) {
            let bytes = run.get(server).await?;
            opener.open(run, bytes, ()).await?;
        }
    }
    Ok(())
}
