//! The pieces that a server lacks, sealed on several threads and filled into packs.

use super::{
    UploadError,
    chunk::{CHUNK_LEN, Chunker},
    index::{Index, Piece, read_data},
};
use crate::{blocking::blocking, keys::Keys, mapped, random::SharedRng};
use backstop_protocol::{
    api::{PACK_TARGET, SEALED_CHUNK_MAX},
    id::{ChunkId, PackId},
    pack::{ENTRY_HEADER_LEN, PackBuilder},
};
use bytes::Bytes;
use std::{collections::VecDeque, fs::File, sync::Arc, thread::available_parallelism};
use tokio::task::JoinHandle;

/// How many pieces are sealed in one go.
const PAGE: usize = 64;
/// Most threads that seal at once; memory holds a page for each.
const THREADS: usize = 4;

/// How much of the machine an upload takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As much as helps: somebody waits for it.
    Full,
    /// Little at a time: the node's work goes first.
    Background,
}

impl Pace {
    fn threads(self) -> usize {
        match self {
            Self::Full => available_parallelism().map_or(1, usize::from).min(THREADS),
            Self::Background => 1,
        }
    }

    /// How many packs there are at once: one is filled, the others are on their way to the server and back. Memory holds so many.
    pub(super) fn packs(self) -> usize {
        match self {
            Self::Full => 3,
            Self::Background => 2,
        }
    }
}

/// A pack, and the pieces in it.
pub(super) struct Filled {
    builder: PackBuilder,
    pub(super) pieces: Vec<Piece>,
}

impl Filled {
    fn empty() -> Self {
        Self {
            // One allocation: a vector that grows holds twice as much at its end.
            builder: PackBuilder::with_capacity(mapped::capacity(
                PACK_TARGET + ENTRY_HEADER_LEN + SEALED_CHUNK_MAX,
            )),
            pieces: Vec::new(),
        }
    }

    /// Its name, its bytes, and what is in it.
    pub(super) async fn finish(self) -> (PackId, Bytes, Vec<Piece>) {
        let builder = self.builder;
        let (id, bytes) = blocking(move || builder.finish()).await;
        (id, bytes.into(), self.pieces)
    }
}

/// Reads and seals pieces of one file.
#[derive(Clone)]
pub(super) struct Sealing {
    pub(super) file: Arc<File>,
    pub(super) keys: Arc<Keys>,
    pub(super) rng: SharedRng,
    /// Somebody may be writing to the file: a piece that changed under the reading is left out.
    pub(super) moving: bool,
    pub(super) pace: Pace,
}

/// A piece, and the content of a list, which is in no file.
struct Wanted {
    piece: Piece,
    list: Vec<u8>,
}

type Sealed = Vec<(Piece, Vec<u8>)>;

/// Fills packs with what an index notes as missing, in the order of its ids, which tells nothing about the file and puts what the
/// server sorts by id side by side.
pub(super) struct Filling<'a> {
    sealing: &'a Sealing,
    index: &'a mut Index,
    /// The last piece that was given to a thread.
    after: Option<ChunkId>,
    /// Pages on their threads, in order.
    at_work: VecDeque<JoinHandle<Result<Sealed, UploadError>>>,
    /// Of the last page what went beyond the last pack.
    left: std::vec::IntoIter<(Piece, Vec<u8>)>,
}

impl<'a> Filling<'a> {
    pub(super) fn new(sealing: &'a Sealing, index: &'a mut Index) -> Self {
        Self {
            sealing,
            index,
            after: None,
            at_work: VecDeque::new(),
            left: Vec::new().into_iter(),
        }
    }

    /// The next pack; `None` where nothing is left.
    pub(super) async fn next(&mut self) -> Result<Option<Filled>, UploadError> {
        let mut filled = Filled::empty();
        while filled.builder.len() < PACK_TARGET {
            match self.left.next() {
                Some((piece, sealed)) => {
                    filled.builder.push(piece.id, &sealed);
                    filled.pieces.push(piece);
                }
                None => match self.page().await? {
                    Some(sealed) => self.left = sealed.into_iter(),
                    None => break,
                },
            }
        }
        Ok((!filled.pieces.is_empty()).then_some(filled))
    }

    /// The next page, sealed; those after it are begun.
    async fn page(&mut self) -> Result<Option<Sealed>, UploadError> {
        while self.at_work.len() < self.sealing.pace.threads()
            && let Some(page) = wanted(self.index, &mut self.after)?
        {
            let (sealing, database_len) = (self.sealing.clone(), self.index.database_len);
            let sealed = tokio::task::spawn_blocking(move || sealing.seal(&page, database_len));
            self.at_work.push_back(sealed);
        }
        match self.at_work.pop_front() {
            None => Ok(None),
            Some(sealed) => match sealed.await {
                Ok(sealed) => sealed.map(Some),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }
}

impl Sealing {
    fn seal(mut self, page: &[Wanted], database_len: u64) -> Result<Sealed, UploadError> {
        let mut chunker = Chunker::new(&self.keys);
        let mut buffer = vec![0; CHUNK_LEN];
        let mut sealed = Vec::with_capacity(page.len());
        for Wanted { piece, list } in page {
            let plaintext = if piece.is_list {
                list.as_slice()
            } else {
                read_data(&self.file, database_len, piece.at, &mut buffer)?
            };
            // Committed under the first reading's id, other content would be a snapshot that cannot be opened.
            if chunker.id(piece.kind(), plaintext) != piece.id {
                if self.moving {
                    continue;
                }
                return Err(UploadError::Changed);
            }
            sealed.push((
                *piece,
                chunker.seal(piece.kind(), piece.id, plaintext, &mut self.rng),
            ));
        }
        Ok(sealed)
    }
}

/// The next of what the server lacks; `after` goes on.
fn wanted(index: &Index, after: &mut Option<ChunkId>) -> Result<Option<Vec<Wanted>>, UploadError> {
    let missing = index.missing(*after, PAGE)?;
    let Some(newest) = missing.last() else {
        return Ok(None);
    };
    *after = Some(newest.id);
    let wanted = missing.into_iter().map(|piece| {
        let list = if piece.is_list {
            index.list(piece.at)?
        } else {
            Vec::new()
        };
        Ok(Wanted { piece, list })
    });
    wanted.collect::<Result<_, UploadError>>().map(Some)
}
