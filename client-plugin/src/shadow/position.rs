//! `position`: how far the shadow is.

use crate::{directory::boot_id, durable, snapshot::Base};
use backstop_protocol::id::{RecordHash, TimelineId};
use serde::{Deserialize, Serialize};
use std::{io, path::Path};

const FILE: &str = "position";
const MODE: u32 = 0o600;

/// The record after which the shadow stands, or stood when this was last written down: it may be further, never less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Version of this file, 1.
    version: u8,
    /// The history.
    pub timeline: TimelineId,
    /// The record; 0 before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: RecordHash,
    /// The last policy record up to there, sealed: the log that held it may be gone.
    #[serde(with = "hex::serde", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) policy: Vec<u8>,
    /// Whether the database was flushed and not opened since.
    settled: bool,
    /// The kernel's boot id when this was written.
    boot: String,
}

impl Position {
    pub(super) fn before_all(timeline: TimelineId) -> Self {
        Self::new(timeline, 0, RecordHash::NONE, Vec::new())
    }

    pub(super) fn after(base: Base, policy: Option<Vec<u8>>) -> Self {
        Self::new(base.timeline, base.seq, base.hash, policy.unwrap_or_default())
    }

    fn new(timeline: TimelineId, seq: u64, hash: RecordHash, policy: Vec<u8>) -> Self {
        Self {
            version: 1,
            timeline,
            seq,
            hash,
            policy,
            settled: false,
            boot: boot_id(),
        }
    }

    /// The place in the chain; `None` before the first record.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        (self.seq > 0).then_some(Base {
            timeline: self.timeline,
            seq: self.seq,
            hash: self.hash,
        })
    }

    /// The last policy record up to there, sealed.
    #[must_use]
    pub fn policy(&self) -> Option<&[u8]> {
        (!self.policy.is_empty()).then_some(self.policy.as_slice())
    }

    /// Whether the machine ran on since this was written, or the database was safe on the disk.
    pub(super) fn survived(&self) -> bool {
        self.settled || (!self.boot.is_empty() && self.boot == boot_id())
    }

    /// `None` where there is none, or none that this program understands: a shadow is made again then.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(dir.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(error) => return Err(error),
        };
        let position = serde_json::from_str::<Self>(&text).ok();
        Ok(position.filter(|position| position.version == 1))
    }

    pub(super) fn write(&self, dir: &Path, settled: bool) -> io::Result<()> {
        let written = Self {
            settled,
            boot: boot_id(),
            ..self.clone()
        };
        durable::write(&dir.join(FILE), &serde_json::to_vec(&written)?, MODE)
    }

    pub(super) fn remove(dir: &Path) -> io::Result<()> {
        match std::fs::remove_file(dir.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => durable::sync_parent(&dir.join(FILE)),
        }
    }
}
