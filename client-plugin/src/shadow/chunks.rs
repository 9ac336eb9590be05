//! `chunks`: which chunks the newest snapshot has.
//!
//! ```text
//! "BKSP"  version (1)  snapshot (16)  ids, sorted (32 each)
//! ```
//! It may be lost: then the next snapshot's list is sent whole.

use crate::durable;
use backstop_protocol::{
    bytes::Reader,
    chunk::{encode_ids, parse_ids},
    id::{ChunkId, SnapshotId},
};
use std::{io, path::Path};

const FILE: &str = "chunks";
const MODE: u32 = 0o600;
const MAGIC: &[u8; 5] = b"BKSP\x01";

/// The chunks of a complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownChunks {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its chunks, sorted, each once.
    pub chunks: Vec<ChunkId>,
}

impl KnownChunks {
    /// What was written last; `None` where it cannot be read.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let bytes = std::fs::read(dir.join(FILE)).ok()?;
        let mut reader = Reader::new(&bytes);
        if reader.array().ok()? != *MAGIC {
            return None;
        }
        let snapshot = SnapshotId(reader.array().ok()?);
        let rest = reader.rest();
        let chunks = parse_ids(rest, rest.len() / ChunkId::LEN).ok()?;
        let sorted = chunks.is_sorted_by(|a, b| a < b);
        sorted.then_some(Self { snapshot, chunks })
    }

    /// Writes it down in place of what was there.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.snapshot.0);
        bytes.extend_from_slice(&encode_ids(&self.chunks));
        durable::write(&dir.join(FILE), &bytes, MODE)
    }
}
