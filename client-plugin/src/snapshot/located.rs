//! Chunks where they lie on a server: what one request brings of a pack, and how it is opened.

use super::{chunk::Chunker, fetch::FetchError, index::chunk_len, server::ChunkServer, spot::Spot};
use crate::{blocking::blocking, keys::Keys, remote::RemoteError};
use backstop_protocol::{
    api::{PACK_MAX, PACK_TARGET, SEALED_CHUNK_MAX, SEALED_CHUNK_MIN},
    chunk::{ChunkKind, ChunkPlace},
    id::{ChunkId, PackId, SnapshotId},
};
use bytes::Bytes;
use std::{collections::VecDeque, io, sync::Arc};

/// Most bytes of a pack that are asked for at once: a whole pack as this program makes them.
const RUN_MAX: usize = PACK_TARGET + SEALED_CHUNK_MAX;
/// Up to how many bytes that nobody needs are taken along, rather than asking twice.
const GAP_MAX: u32 = 128 << 10;

/// A chunk within a pack.
pub(super) struct Located {
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) kind: ChunkKind,
    pub(super) id: ChunkId,
    /// Its places among those of its kind; at least one.
    pub(super) places: Vec<u32>,
}

impl Located {
    fn end(&self) -> u32 {
        self.start.saturating_add(self.len)
    }

    /// The first of its places.
    fn at(&self) -> u32 {
        self.places.first().copied().unwrap_or_default()
    }
}

/// Neighbours in a pack, fetched with one request.
pub(super) struct Run {
    pack: PackId,
    pub(super) chunks: Vec<Located>,
}

impl Run {
    /// Puts chunks of one pack together, in its order.
    pub(super) fn all(pack: PackId, mut chunks: Vec<Located>) -> VecDeque<Self> {
        chunks.sort_unstable_by_key(|chunk| chunk.start);
        let mut runs = VecDeque::<Self>::new();
        for chunk in chunks {
            match runs.back_mut() {
                Some(run) if run.takes(&chunk) => run.chunks.push(chunk),
                _ => runs.push_back(Self {
                    pack,
                    chunks: vec![chunk],
                }),
            }
        }
        runs
    }

    fn takes(&self, next: &Located) -> bool {
        self.chunks.last().is_some_and(|last| {
            next.start.saturating_sub(last.end()) <= GAP_MAX
                && next.end().saturating_sub(self.start()) as usize <= RUN_MAX
        })
    }

    fn start(&self) -> u32 {
        self.chunks.first().map_or(0, |first| first.start)
    }

    /// What the server has there.
    pub(super) async fn get(&self, server: &impl ChunkServer) -> Result<Bytes, RemoteError> {
        let end = self.chunks.last().map_or(0, Located::end);
        let range = (self.start(), end.saturating_sub(self.start()));
        server.get_pack(self.pack, Some(range)).await
    }
}

/// Opens chunks of one snapshot and checks all that SPEC 6.1 asks for.
#[derive(Clone)]
pub(super) struct Opener {
    keys: Arc<Keys>,
    snapshot: SnapshotId,
    /// Length of the database, bytes.
    database_len: u64,
}

impl Opener {
    /// For the chunks of a snapshot of a database of that many bytes.
    pub(super) fn new(keys: &Arc<Keys>, snapshot: SnapshotId, database_len: u64) -> Self {
        Self {
            keys: Arc::clone(keys),
            snapshot,
            database_len,
        }
    }

    /// Length of the database, bytes.
    pub(super) fn database_len(&self) -> u64 {
        self.database_len
    }

    /// Where a chunk belongs.
    fn spot(&self, kind: ChunkKind, at: u32) -> Spot {
        Spot {
            snapshot: self.snapshot,
            kind,
            at,
        }
    }

    /// What the server said about where a chunk lies, if that can be.
    pub(super) fn place(
        &self,
        (kind, at): (ChunkKind, u32),
        place: Option<ChunkPlace>,
    ) -> Result<ChunkPlace, FetchError> {
        let spot = self.spot(kind, at);
        let place = place.ok_or(FetchError::Missing(spot))?;
        let end = (place.offset as usize).saturating_add(place.len as usize);
        if !(SEALED_CHUNK_MIN..=SEALED_CHUNK_MAX).contains(&(place.len as usize)) || end > PACK_MAX {
            return Err(FetchError::Place(spot));
        }
        Ok(place)
    }

    /// Opens what came for a run, on a thread for that, and hands each chunk to `keep`. Returns the run, and what `keep` collected.
    pub(super) async fn open<K: Keep>(
        &self,
        run: Run,
        bytes: Bytes,
        mut keep: K,
    ) -> Result<(Run, K), FetchError> {
        let opener = self.clone();
        blocking(move || {
            opener.open_all(&run, &bytes, &mut keep)?;
            Ok((run, keep))
        })
        .await
    }

    fn open_all(&self, run: &Run, bytes: &[u8], keep: &mut impl Keep) -> Result<(), FetchError> {
        let mut chunker = Chunker::new(&self.keys);
        for chunk in &run.chunks {
            let from = chunk.start.saturating_sub(run.start()) as usize;
            let sealed = bytes.get(from..).unwrap_or_default();
            let sealed = sealed.get(..chunk.len as usize).unwrap_or(sealed);
            let len = chunk_len(self.database_len, chunk.kind, chunk.at());
            let opened = chunker
                .open(chunk.kind, chunk.id, sealed, len)
                .map_err(|reason| FetchError::Damaged {
                    spot: self.spot(chunk.kind, chunk.at()),
                    reason,
                })?;
            keep.keep(chunk, &opened)?;
        }
        Ok(())
    }
}

/// What is done with the chunks that came.
pub(super) trait Keep: Send + 'static {
    /// Takes one, which was checked.
    fn keep(&mut self, chunk: &Located, plaintext: &[u8]) -> io::Result<()>;
}

/// Nothing: they were to be checked.
impl Keep for () {
    fn keep(&mut self, _: &Located, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
