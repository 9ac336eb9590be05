//! `witness`: the last head that was acknowledged to this directory (I6).
//!
//! It may lag behind the servers, after a crash; it never runs ahead of them. A server below it has lost records.

use super::{Directory, DirectoryError};
use backstop_protocol::{head::Head, id::TimelineId};
use serde::{Deserialize, Serialize};

const FILE: &str = "witness";

/// A head that was seen durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Version of this file, 1.
    pub version: u8,
    /// The history.
    pub timeline: TimelineId,
    /// Its head.
    pub head: Head,
    /// The version of the database that the head leads to.
    pub data_version: u64,
}

impl Witness {
    /// A witness of `head`, which leads to a database of `data_version`.
    #[must_use]
    pub fn new(timeline: TimelineId, head: Head, data_version: u64) -> Self {
        Self {
            version: 1,
            timeline,
            head,
            data_version,
        }
    }
}

impl Directory {
    /// The witness; `None` where nothing was ever acknowledged.
    pub fn witness(&self) -> Result<Option<Witness>, DirectoryError> {
        let Some(text) = self.read_if_there(FILE)? else {
            return Ok(None);
        };
        let witness: Witness =
            serde_json::from_str(&text).map_err(|error| self.bad(FILE, error.to_string()))?;
        if witness.version == 1 {
            Ok(Some(witness))
        } else {
            Err(self.bad(FILE, "a version unknown to this program"))
        }
    }

    /// Forgets the witness: the operator said that what it saw is lost for good.
    pub fn forget_witness(&self) -> Result<(), DirectoryError> {
        self.remove(FILE)
    }

    /// Replaces the witness, with an fsync: never called on the hook's path.
    pub fn write_witness(&self, witness: &Witness) -> Result<(), DirectoryError> {
        let text = serde_json::to_string(witness).map_err(|error| self.bad(FILE, error.to_string()))?;
        self.write(FILE, &format!("{text}\n"))
    }
}
