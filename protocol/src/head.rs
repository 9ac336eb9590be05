//! A place in a chain (SPEC 1.3).

use crate::id::RecordHash;
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt};

/// The last durable record of a chain. Heads are ordered by `(epoch, seq)`, never by length alone: a fenced
/// writer's longer tail is older than its successor's shorter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Epoch of the record.
    pub epoch: u64,
    /// Place of the record in its timeline, from 1.
    pub seq: u64,
    /// SHA-256 of the sealed record.
    pub hash: RecordHash,
}

impl Head {
    /// The head of a chain without records.
    pub const EMPTY: Self = Self {
        epoch: 0,
        seq: 0,
        hash: RecordHash::NONE,
    };

    /// Whether no record exists yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seq == 0
    }

    /// Older, same or newer place; the hash does not decide.
    #[must_use]
    pub fn cmp_place(&self, other: &Self) -> Ordering {
        (self.epoch, self.seq).cmp(&(other.epoch, other.seq))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.seq, self.hash)
    }
}
