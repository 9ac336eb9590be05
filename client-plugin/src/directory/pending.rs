//! `change`: the servers and the rule that are to be, from just before the backup says so until the configuration does too
//! (SPEC 8.7). In between nobody may write: what one of the two acknowledges the other might not look for.

use super::{Config, Directory, DirectoryError, RequireConfig, ServerConfig};
use serde::{Deserialize, Serialize};

const FILE: &str = "change";

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Version of this file, 1.
    version: u8,
    /// The command that a person typed; typed again, it does the rest.
    pub typed: String,
    /// The rule that is to be.
    pub require: RequireConfig,
    /// The servers that are to be.
    pub servers: Vec<ServerConfig>,
}

impl Pending {
    /// On the way to `next`.
    #[must_use]
    pub fn new(typed: String, next: &Config) -> Self {
        Self {
            version: 1,
            typed,
            require: next.require,
            servers: next.servers.clone(),
        }
    }
}

impl Directory {
    /// A change of the servers that was begun and not completed.
    pub fn pending(&self) -> Result<Option<Pending>, DirectoryError> {
        let Some(text) = self.read_if_there(FILE)? else {
            return Ok(None);
        };
        let pending: Pending =
            serde_json::from_str(&text).map_err(|error| self.bad(FILE, error.to_string()))?;
        if pending.version == 1 {
            Ok(Some(pending))
        } else {
            Err(self.bad(FILE, "a version unknown to this program"))
        }
    }

    /// Writes down what is to be, before the backup names it.
    pub fn write_pending(&self, pending: &Pending) -> Result<(), DirectoryError> {
        let text = serde_json::to_string(pending).map_err(|error| self.bad(FILE, error.to_string()))?;
        self.write(FILE, &format!("{text}\n"))
    }

    /// The configuration says it too.
    pub fn forget_pending(&self) -> Result<(), DirectoryError> {
        self.remove(FILE)
    }
}
