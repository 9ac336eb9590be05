//! What this directory knows of its spool: where it is, and what the backup says about it (SPEC 8.10).

use super::{Directory, DirectoryError};
use std::path::PathBuf;

const SPOOL: &str = "spool";
const DECLARED: &str = "declared";

impl Directory {
    /// The spool's file; mostly it is not there.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join(SPOOL)
    }

    /// For how many seconds the backup says that this node may go on without its servers, as far as this directory knows; 0: not at all
    /// any more. `None` where it never said anything of that.
    pub fn declared_spool(&self) -> Result<Option<u64>, DirectoryError> {
        let Some(text) = self.read_if_there(DECLARED)? else {
            return Ok(None);
        };
        let seconds = text.trim().parse();
        seconds
            .map(Some)
            .map_err(|_| self.bad(DECLARED, "it is no number of seconds"))
    }

    /// Writes down what the backup says.
    pub fn write_declared_spool(&self, seconds: u64) -> Result<(), DirectoryError> {
        let known = self.declared_spool().ok().flatten();
        if known.unwrap_or(0) == seconds {
            return Ok(());
        }
        self.write(DECLARED, &format!("{seconds}\n"))
    }
}
