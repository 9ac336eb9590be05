//! `taken`: the epoch at which this directory took the node over, by a person's word (SPEC 8.7).
//!
//! A takeover need not reach all servers. The plugin takes along those that it missed, which are at lower epochs; without this
//! file it would not know that it may.

use super::{Directory, DirectoryError};

const FILE: &str = "taken";

impl Directory {
    /// The epoch of the takeover; 0 where there was none.
    pub fn taken_at(&self) -> Result<u64, DirectoryError> {
        let Some(text) = self.read_if_there(FILE)? else {
            return Ok(0);
        };
        text.trim().parse().map_err(|_| self.bad(FILE, "it is no epoch"))
    }

    /// Writes it down.
    pub fn write_taken_at(&self, epoch: u64) -> Result<(), DirectoryError> {
        self.write(FILE, &format!("{epoch}\n"))
    }
}
