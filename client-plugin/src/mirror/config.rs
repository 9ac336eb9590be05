//! `mirror.toml`: whose backup a mirror follows, where, and how long it keeps what the server drops.

use super::MirrorError;
use crate::{directory::ServerConfig, durable, remote::Connect};
use backstop_protocol::{
    grant::SignedGrant,
    id::{Network, NodeId},
};
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "mirror.toml";

/// What a mirror was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this file, 1.
    pub version: u8,
    /// The node.
    pub node: NodeId,
    /// Its network.
    pub network: Network,
    /// For how many days what another snapshot superseded, and what was set aside, is kept; at least one.
    pub keep_days: u32,
    /// `socks5h://host:port` by which servers are reached; directly where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// What the node signed for this device's access key.
    pub grant: SignedGrant,
    /// Where the backup is; the first that answers is followed.
    #[serde(rename = "server")]
    pub servers: Vec<ServerConfig>,
}

impl Config {
    /// For how many days what was superseded is kept, unless somebody says otherwise.
    pub const KEEP_DAYS: u32 = 30;

    /// Reads and checks it.
    pub fn read(dir: &Path) -> Result<Self, MirrorError> {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| MirrorError::io(&path, error))?;
        let bad = |reason: String| MirrorError::Bad {
            path: path.clone(),
            reason,
        };
        let config: Self = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
        config.check().map_err(bad)?;
        Ok(config)
    }

    /// Whether there is one.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Writes it.
    pub fn write(&self, dir: &Path) -> Result<(), MirrorError> {
        let path = dir.join(FILE);
        let bad = |reason: String| MirrorError::Bad {
            path: path.clone(),
            reason,
        };
        self.check().map_err(bad)?;
        let text = toml::to_string(self).map_err(|error| bad(error.to_string()))?;
        let text = format!("# What this mirror follows. Written by `backstop mirror`.\n\n{text}");
        durable::write(&path, text.as_bytes(), 0o600).map_err(|error| MirrorError::io(&path, error))
    }

    /// How servers are reached.
    #[must_use]
    pub fn connect(&self) -> Connect {
        Connect::through(self.proxy.clone())
    }

    fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("version {} is unknown to this program", self.version));
        }
        if self.keep_days == 0 {
            return Err("keep_days is at least 1".to_owned());
        }
        if self.servers.is_empty() {
            return Err("it names no server".to_owned());
        }
        let grant = self.grant.verify().map_err(|error| error.to_string())?;
        if (grant.node, grant.network) != (self.node, self.network) {
            return Err("its grant speaks for another node or network".to_owned());
        }
        Ok(())
    }
}
