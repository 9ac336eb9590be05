//! Where in a snapshot a piece belongs, for whoever hears that it is wrong.

use super::chunk::CHUNK_LEN;
use backstop_protocol::{chunk::ChunkKind, id::SnapshotId};
use std::fmt;

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
