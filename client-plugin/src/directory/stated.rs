//! `stated`: the servers and the rule that the backup itself names (SPEC 5.4.5), so that a configuration which says something else is
//! noticed: a restore follows the backup, and must find what was acknowledged.

use super::{Config, Directory, DirectoryError, RequireConfig};
use backstop_protocol::id::ServerKey;
use serde::{Deserialize, Serialize};

const FILE: &str = "stated";

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// Version of this file, 1.
    version: u8,
    require: RequireConfig,
    /// Sorted.
    servers: Vec<ServerKey>,
}

impl Stated {
    /// What a policy says.
    #[must_use]
    pub fn new(require: RequireConfig, servers: impl IntoIterator<Item = ServerKey>) -> Self {
        let mut servers: Vec<_> = servers.into_iter().collect();
        servers.sort_unstable();
        Self {
            version: 1,
            require,
            servers,
        }
    }
}

impl From<&Config> for Stated {
    fn from(config: &Config) -> Self {
        Self::new(config.require, config.servers.iter().map(|server| server.key))
    }
}

impl Directory {
    /// What the backup names, as far as this directory knows.
    pub fn stated(&self) -> Result<Option<Stated>, DirectoryError> {
        let Some(text) = self.read_if_there(FILE)? else {
            return Ok(None);
        };
        let stated: Stated =
            serde_json::from_str(&text).map_err(|error| self.bad(FILE, error.to_string()))?;
        if stated.version == 1 {
            Ok(Some(stated))
        } else {
            Err(self.bad(FILE, "a version unknown to this program"))
        }
    }

    /// Writes it down, once the backup does name them.
    pub fn write_stated(&self, stated: &Stated) -> Result<(), DirectoryError> {
        let text = serde_json::to_string(stated).map_err(|error| self.bad(FILE, error.to_string()))?;
        self.write(FILE, &format!("{text}\n"))
    }
}
