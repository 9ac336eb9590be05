//! Which chunks a complete snapshot has, as a file.
//!
//! ```text
//! "BKSP"  version (1)  snapshot (16)  ids, sorted (32 each)
//! ```
//! It may be lost: then the next snapshot's list is sent whole.

use super::{index::Index, scratch::ScratchError};
use crate::durable;
use backstop_protocol::id::{ChunkId, SnapshotId};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

const MODE: u32 = 0o600;
const MAGIC: &[u8; 5] = b"BKSP\x01";
const HEADER_LEN: usize = MAGIC.len() + 16;

/// The chunks of a complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownChunks {
    /// The snapshot.
    pub snapshot: SnapshotId,
    path: PathBuf,
}

impl KnownChunks {
    /// What was written to `path` last; `None` where it cannot be read.
    #[must_use]
    pub fn open(path: &Path) -> Option<Self> {
        let mut header = [0; HEADER_LEN];
        let mut file = File::open(path).ok()?;
        file.read_exact(&mut header).ok()?;
        let (magic, snapshot) = header.split_at(MAGIC.len());
        let known = Self {
            snapshot: SnapshotId(snapshot.try_into().ok()?),
            path: path.to_owned(),
        };
        let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let whole = magic == MAGIC && len.checked_sub(HEADER_LEN)?.is_multiple_of(ChunkId::LEN);
        (whole && known.is_sorted().ok()?).then_some(known)
    }

    fn is_sorted(&self) -> io::Result<bool> {
        let mut before = None;
        for id in self.ids()? {
            let id = Some(id?);
            if before >= id {
                return Ok(false);
            }
            before = id;
        }
        Ok(true)
    }

    /// The chunks, sorted, each once.
    pub fn ids(&self) -> io::Result<impl Iterator<Item = io::Result<ChunkId>> + use<>> {
        let mut file = BufReader::new(File::open(&self.path)?);
        file.read_exact(&mut [0; HEADER_LEN])?;
        Ok(std::iter::from_fn(move || {
            let mut id = [0; ChunkId::LEN];
            match file.read_exact(&mut id) {
                Ok(()) => Some(Ok(ChunkId(id))),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => Some(Err(error)),
            }
        }))
    }

    /// Writes down the chunks of a snapshot in place of what was at `path`.
    pub fn write(path: &Path, snapshot: SnapshotId, index: &Index) -> Result<Self, ScratchError> {
        durable::write_with(path, MODE, |file| {
            let mut file = BufWriter::new(file);
            file.write_all(MAGIC)?;
            file.write_all(&snapshot.0)?;
            index.each(&mut |id| file.write_all(&id.0))?;
            Ok::<_, ScratchError>(file.flush()?)
        })?;
        Ok(Self {
            snapshot,
            path: path.to_owned(),
        })
    }
}
