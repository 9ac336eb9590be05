//! From a snapshot on a server to a database file, every byte of it checked (SPEC 6.5, I9).

use super::{
    chunk::{BadChunk, CHUNK_LEN, Chunker, LIST_IDS},
    index::data_len,
    manifest::Manifest,
    server::ChunkServer,
};
use crate::{keys::Keys, remote::RemoteError};
use backstop_protocol::{
    api::{LOCATE_MAX, PACK_MAX, PACK_TARGET, SEALED_CHUNK_MAX, SEALED_CHUNK_MIN},
    chunk::{ChunkKind, parse_ids},
    id::{ChunkId, PackId, SnapshotId},
    problem::ProblemCode,
};
use std::{
    collections::HashMap,
    fmt,
    fs::OpenOptions,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Most bytes of a pack that are asked for at once: a whole pack as this program makes them.
const RUN_MAX: usize = PACK_TARGET + SEALED_CHUNK_MAX;
/// Up to how many bytes that nobody needs are taken along, rather than asking twice.
const GAP_MAX: u32 = 128 << 10;

/// Which piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Data, or a list of ids.
    pub kind: ChunkKind,
    /// Its place among those of its kind, from 0.
    pub at: u32,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { snapshot, kind, at } = self;
        match kind {
            ChunkKind::Data => {
                let from = u64::from(*at) * CHUNK_LEN as u64;
                write!(
                    f,
                    "the piece of snapshot {snapshot} at byte {from} of the database"
                )
            }
            ChunkKind::List => write!(f, "list {at} of snapshot {snapshot}"),
        }
    }
}

/// Why the database could not be put together. The file is removed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server does not have a piece.
    #[error("the server does not have {0}")]
    Missing(Spot),
    /// The server gave something else than the piece.
    #[error("the server gave a bad copy of {spot}: {reason}")]
    Damaged {
        /// Which.
        spot: Spot,
        /// What is wrong with it.
        reason: BadChunk,
    },
    /// The server said that a piece lies where none can lie.
    #[error("the server names an impossible place for {0}")]
    Place(Spot),
    /// The server did not answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The file could not be written.
    #[error("the database file could not be written: {0}")]
    Io(#[from] io::Error),
}

impl FetchError {
    /// The same error, where the chunks that were asked for have other places in the file than in the asking.
    pub(super) fn at_place(mut self, place: impl FnOnce(u32) -> u32) -> Self {
        if let Self::Missing(spot) | Self::Place(spot) | Self::Damaged { spot, .. } = &mut self {
            spot.at = place(spot.at);
        }
        self
    }
}

/// Writes the database of `manifest` to `to`, a file that must not exist yet, and flushes it. `progress` hears how many
/// bytes of the database are there, of how many.
pub async fn fetch(
    server: &impl ChunkServer,
    keys: &Keys,
    manifest: &Manifest,
    to: &Path,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<(), FetchError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let fetched = async {
        let mut fetcher = Fetcher::new(server, keys, manifest.snapshot);
        let data = fetcher.data_ids(manifest).await?;
        let total = manifest.database_len;
        file.set_len(total)?;
        let mut done = 0;
        progress(done, total);
        let len = |at| data_len(total, at);
        let mut write = |at: u32, piece: &[u8]| {
            file.write_all_at(piece, u64::from(at) * CHUNK_LEN as u64)?;
            done += piece.len() as u64;
            progress(done, total);
            Ok(())
        };
        let pieces = Pieces {
            kind: ChunkKind::Data,
            ids: &data,
            len: &len,
        };
        fetcher.fetch(&pieces, &mut write).await?;
        file.sync_all()?;
        Ok(())
    }
    .await;
    if fetched.is_err() {
        // The half-written file is ours and of no use; the first error is the one to report.
        let _ = std::fs::remove_file(to);
    }
    fetched
}

/// Fetches chunks and opens them.
pub(super) struct Fetcher<'a, 'k, S> {
    server: &'a S,
    chunker: Chunker<'k>,
    snapshot: SnapshotId,
}

/// Chunks of one kind, as they stand in the file.
pub(super) struct Pieces<'a> {
    pub(super) kind: ChunkKind,
    pub(super) ids: &'a [ChunkId],
    /// Length of each by its place, bytes.
    pub(super) len: &'a (dyn Fn(u32) -> usize + Sync),
}

/// A chunk to be fetched: few bytes, for a large database has many.
struct Wanted {
    /// Index of its pack.
    pack: u32,
    offset: u32,
    len: u32,
    /// Index of its first place in [`Order`].
    first: u32,
}

impl Wanted {
    fn end(&self) -> u32 {
        self.offset.saturating_add(self.len)
    }
}

/// All places, sorted by the ids that stand there: that order says nothing about the file, and equal ids are neighbours.
struct Order<'a> {
    ids: &'a [ChunkId],
    places: Vec<u32>,
}

impl<'a> Order<'a> {
    fn of(ids: &'a [ChunkId]) -> Self {
        let mut places: Vec<u32> = (0..).take(ids.len()).collect();
        places.sort_unstable_by_key(|at| (ids.get(*at as usize), *at));
        Self { ids, places }
    }

    /// Each id once, with the index of its first place.
    fn distinct(&self) -> Vec<(ChunkId, u32)> {
        let sorted = self
            .places
            .iter()
            .filter_map(|at| self.ids.get(*at as usize))
            .copied();
        let mut distinct: Vec<_> = sorted.zip(0..).collect();
        distinct.dedup_by_key(|(id, _)| *id);
        distinct
    }

    /// The id whose places begin at index `first`, and these places.
    fn at(&self, first: u32) -> (Option<ChunkId>, impl Iterator<Item = u32>) {
        let rest = self
            .places
            .get(first as usize..)
            .unwrap_or_default()
            .iter()
            .copied();
        let id = rest
            .clone()
            .next()
            .and_then(|at| self.ids.get(at as usize))
            .copied();
        (
            id,
            rest.take_while(move |at| self.ids.get(*at as usize).copied() == id),
        )
    }
}

impl<'a, 'k, S: ChunkServer> Fetcher<'a, 'k, S> {
    pub(super) fn new(server: &'a S, keys: &'k Keys, snapshot: SnapshotId) -> Self {
        Self {
            server,
            chunker: Chunker::new(keys),
            snapshot,
        }
    }

    /// The ids of all data chunks, in file order, from the lists.
    async fn data_ids(&mut self, manifest: &Manifest) -> Result<Vec<ChunkId>, FetchError> {
        let chunks = usize::try_from(manifest.chunks()).unwrap_or(usize::MAX);
        let len = |at| {
            let before = LIST_IDS.saturating_mul(at as usize);
            chunks.saturating_sub(before).min(LIST_IDS) * ChunkId::LEN
        };
        let mut lists = vec![Vec::new(); manifest.lists.len()];
        let mut keep = |at: u32, list: &[u8]| {
            if let Some(ids) = lists.get_mut(at as usize) {
                *ids = parse_ids(list, LIST_IDS).map_err(io::Error::other)?;
            }
            Ok(())
        };
        let pieces = Pieces {
            kind: ChunkKind::List,
            ids: &manifest.lists,
            len: &len,
        };
        self.fetch(&pieces, &mut keep).await?;
        Ok(lists.concat())
    }

    /// Fetches each distinct piece once and hands it to `keep` with each of its places.
    pub(super) async fn fetch(
        &mut self,
        pieces: &Pieces<'_>,
        keep: &mut (dyn FnMut(u32, &[u8]) -> io::Result<()> + Send),
    ) -> Result<(), FetchError> {
        let order = Order::of(pieces.ids);
        let mut fetched = vec![false; pieces.ids.len()];
        let mut moved = None;
        loop {
            let (packs, mut wanted) = self.locate(pieces.kind, &order).await?;
            wanted.retain(|wanted| !fetched.get(wanted.first as usize).copied().unwrap_or_default());
            let before = wanted.len();
            let Err(error) = self
                .fetch_located(pieces, &order, &packs, &wanted, &mut fetched, keep)
                .await
            else {
                return Ok(());
            };
            // The server may have gathered chunks into another pack since they were located (SPEC 6.6): they are
            // located again as long as that leads on.
            if !is_gone(&error) || moved == Some(before) {
                return Err(error);
            }
            moved = Some(before);
        }
    }

    async fn fetch_located(
        &mut self,
        pieces: &Pieces<'_>,
        order: &Order<'_>,
        packs: &[PackId],
        wanted: &[Wanted],
        fetched: &mut [bool],
        keep: &mut (dyn FnMut(u32, &[u8]) -> io::Result<()> + Send),
    ) -> Result<(), FetchError> {
        let mut rest = wanted;
        while let Some(first) = rest.first() {
            let run;
            (run, rest) = rest.split_at(run_len(rest));
            let (Some(pack), Some(last)) = (packs.get(first.pack as usize), run.last()) else {
                continue;
            };
            let range = (first.offset, last.end().saturating_sub(first.offset));
            let bytes = self.server.get_pack(*pack, Some(range)).await?;
            for wanted in run {
                let from = wanted.offset.saturating_sub(first.offset) as usize;
                let sealed = bytes.get(from..).unwrap_or_default();
                let sealed = sealed.get(..wanted.len as usize).unwrap_or(sealed);
                self.open(pieces, order, wanted, sealed, keep)?;
                if let Some(fetched) = fetched.get_mut(wanted.first as usize) {
                    *fetched = true;
                }
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        pieces: &Pieces<'_>,
        order: &Order<'_>,
        wanted: &Wanted,
        sealed: &[u8],
        keep: &mut (dyn FnMut(u32, &[u8]) -> io::Result<()> + Send),
    ) -> Result<(), FetchError> {
        let (Some(id), places) = order.at(wanted.first) else {
            return Ok(());
        };
        for at in places {
            let spot = self.spot(pieces.kind, at);
            let opened = self.chunker.open(pieces.kind, id, sealed, (pieces.len)(at));
            keep(
                at,
                &opened.map_err(|reason| FetchError::Damaged { spot, reason })?,
            )?;
        }
        Ok(())
    }

    /// Where each distinct piece lies: the packs, and the pieces sorted by pack and offset.
    async fn locate(
        &self,
        kind: ChunkKind,
        order: &Order<'_>,
    ) -> Result<(Vec<PackId>, Vec<Wanted>), FetchError> {
        let distinct = order.distinct();
        let mut numbers = HashMap::new();
        let mut wanted = Vec::with_capacity(distinct.len());
        for page in distinct.chunks(LOCATE_MAX) {
            let ids: Vec<_> = page.iter().map(|(id, _)| *id).collect();
            let places = self.server.locate(&ids).await?;
            let mut places = places.into_iter();
            for (_, first) in page {
                let spot = self.spot(
                    kind,
                    order.places.get(*first as usize).copied().unwrap_or_default(),
                );
                let place = places.next().flatten().ok_or(FetchError::Missing(spot))?;
                let end = (place.offset as usize).saturating_add(place.len as usize);
                if !(SEALED_CHUNK_MIN..=SEALED_CHUNK_MAX).contains(&(place.len as usize)) || end > PACK_MAX {
                    return Err(FetchError::Place(spot));
                }
                let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                let pack = *numbers.entry(place.pack).or_insert(next);
                wanted.push(Wanted {
                    pack,
                    offset: place.offset,
                    len: place.len,
                    first: *first,
                });
            }
        }
        wanted.sort_unstable_by_key(|wanted| (wanted.pack, wanted.offset));
        let mut packs: Vec<_> = numbers.into_iter().collect();
        packs.sort_unstable_by_key(|(_, number)| *number);
        Ok((packs.into_iter().map(|(pack, _)| pack).collect(), wanted))
    }

    fn spot(&self, kind: ChunkKind, at: u32) -> Spot {
        Spot {
            snapshot: self.snapshot,
            kind,
            at,
        }
    }
}

/// Whether a pack is not what it was when its chunks were located.
fn is_gone(error: &FetchError) -> bool {
    matches!(error, FetchError::Remote(error) if error.code() == Some(ProblemCode::NotFound))
}

/// How many of `wanted`, sorted by pack and offset, are fetched with one request; at least one where there is one.
fn run_len(wanted: &[Wanted]) -> usize {
    let Some(first) = wanted.first() else { return 0 };
    let fits = |pair: &[Wanted]| match pair {
        [a, b] => {
            b.pack == a.pack
                && b.offset.saturating_sub(a.end()) <= GAP_MAX
                && b.end().saturating_sub(first.offset) as usize <= RUN_MAX
        }
        _ => false,
    };
    1 + wanted.windows(2).take_while(|pair| fits(pair)).count()
}
