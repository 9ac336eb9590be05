//! `config.toml`: what the operator chose. An error in it is an error, never a default.

use super::{Directory, DirectoryError};
use crate::{
    files::{FileName, Files},
    quorum::Rule,
    record::{Content, Policy, PolicyServer, Require},
    remote::Connect,
};
use backstop_protocol::{
    grant::SignedGrant,
    id::{Network, NodeId, RunId, ServerKey},
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

pub(super) const FILE: &str = "config.toml";

/// The configuration of one node's backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of this file, 1.
    pub version: u8,
    /// The node.
    pub node: NodeId,
    /// Its network.
    pub network: Network,
    /// How many servers must hold a record before lightningd may commit: `all` or a `majority`. The backup itself
    /// names it, and the servers: where an editor changed them here, the plugin halts.
    #[serde(default)]
    pub require: RequireConfig,
    /// `socks5h://host:port` by which servers are reached; directly where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The node's database, where it is not `lightningd.sqlite3` beside this directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<PathBuf>,
    /// The files beside the database that are backed up too, by their names in this network's directory; `../` leads to
    /// the lightning-dir.
    #[serde(default = "FileName::defaults")]
    pub files: Vec<FileName>,
    /// What to do while a server does not answer.
    #[serde(default)]
    pub outage: OutageConfig,
    /// The copy of the database from which roll-ups are made.
    #[serde(default)]
    pub shadow: ShadowConfig,
    /// What the node's key signed for this machine's access key.
    pub grant: SignedGrant,
    /// The servers, one or several.
    #[serde(rename = "server")]
    pub servers: Vec<ServerConfig>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Its URL.
    pub url: String,
    /// Its identity, pinned at `setup`.
    pub key: ServerKey,
}

/// How many servers must hold a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RequireConfig {
    /// Every one.
    #[default]
    All,
    /// More than half.
    Majority,
}

/// What the node does while too few servers answer (SPEC 8.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OutagePolicy {
    /// Wait for them, then halt.
    #[default]
    Stall,
    /// Go on against a file on this machine's disk, within bounds; then the same.
    Spool,
}

/// What to do while too few servers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageConfig {
    /// Whether the node waits at once, or goes on against a spool first.
    #[serde(default)]
    pub policy: OutagePolicy,
    /// After how many seconds without a server the node is halted. While it waits, nothing is lost and nothing
    /// moves; peers disconnect after about a minute.
    pub halt_after_seconds: u64,
    /// How many seconds a connection may take to be made, and an answer to begin.
    pub timeout_seconds: u64,
    /// The bounds of the spool, where the policy is one.
    #[serde(default)]
    pub spool: SpoolConfig,
}

/// The bounds of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolConfig {
    /// Most bytes of updates that wait on this machine's disk alone.
    pub bytes: u64,
    /// For how many seconds after the last request that enough servers confirmed the node goes on without them. The backup itself names
    /// it: within that time nobody takes the node over without saying that this machine is off.
    pub seconds: u64,
    /// After how many seconds without an answer an update goes to the spool.
    pub after_seconds: u64,
}

impl SpoolConfig {
    /// The longest that lightningd may stand still without losing its peers.
    const AFTER_MAX: u64 = 25;
    /// The spool is also kept in memory while it waits.
    const BYTES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

    fn check(&self) -> Result<(), String> {
        if !Self::BYTES.contains(&self.bytes) {
            let (least, most) = (Self::BYTES.start(), Self::BYTES.end());
            return Err(format!("outage.spool.bytes must be from {least} to {most}"));
        }
        if self.after_seconds == 0 || self.after_seconds > Self::AFTER_MAX {
            return Err(format!(
                "outage.spool.after_seconds must be from 1 to {}",
                Self::AFTER_MAX
            ));
        }
        if self.seconds <= self.after_seconds || self.seconds > Policy::SPOOL_SECONDS_MAX {
            return Err(format!(
                "outage.spool.seconds must be above outage.spool.after_seconds and at most {}",
                Policy::SPOOL_SECONDS_MAX
            ));
        }
        Ok(())
    }
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            seconds: 600,
            after_seconds: 5,
        }
    }
}

impl OutageConfig {
    /// What suits servers that are reached through this proxy, or directly.
    #[must_use]
    pub fn through(proxy: Option<&str>) -> Self {
        Self {
            timeout_seconds: Connect::through(proxy.map(str::to_owned)).timeout.as_secs(),
            ..Self::default()
        }
    }
}

impl OutageConfig {
    /// For how many seconds the backup says that this node may go on without its servers.
    #[must_use]
    pub fn spool_seconds(&self) -> u64 {
        match self.policy {
            OutagePolicy::Stall => 0,
            OutagePolicy::Spool => self.spool.seconds,
        }
    }

    /// As the backup of a node says that it may.
    #[must_use]
    pub fn spooling(self, seconds: u64) -> Self {
        if seconds == 0 {
            return self;
        }
        let after_seconds = self.spool.after_seconds.min(seconds.saturating_sub(1)).max(1);
        Self {
            policy: OutagePolicy::Spool,
            spool: SpoolConfig {
                seconds: seconds.max(2),
                after_seconds,
                ..self.spool
            },
            ..self
        }
    }
}

impl Default for OutageConfig {
    fn default() -> Self {
        Self {
            policy: OutagePolicy::default(),
            halt_after_seconds: 600,
            timeout_seconds: 10,
            spool: SpoolConfig::default(),
        }
    }
}

/// The copy of the database from which roll-ups are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowConfig {
    /// Whether there is one. It takes as much disk as the database. Without it a roll-up waits for lightningd's next
    /// start and holds it up, and nothing proves the backup.
    pub keep: bool,
    /// After how many hours a start of lightningd compares the backup with the live database again.
    pub prove_every_hours: u64,
}

impl Default for ShadowConfig {
    fn default() -> Self {
        Self {
            keep: true,
            prove_every_hours: 24,
        }
    }
}

impl Config {
    /// How servers are reached.
    #[must_use]
    pub fn connect(&self) -> Connect {
        Connect {
            proxy: self.proxy.clone(),
            timeout: Duration::from_secs(self.outage.timeout_seconds),
        }
    }

    /// How many servers there are, and how many must hold a record.
    #[must_use]
    pub fn rule(&self) -> Rule {
        Rule::new(self.require.into(), self.servers.len())
    }

    /// The servers and the rule as a record of `run`, stated `by` a machine: a restore follows it, not just the URL it was given
    /// (SPEC 5.4.5).
    #[must_use]
    pub fn policy(&self, run: RunId, opens_run: bool, by: String) -> Content {
        let servers = self.servers.iter().map(|server| PolicyServer {
            url: server.url.clone(),
            key: server.key,
        });
        Content::Policy(Policy {
            run,
            opens_run,
            servers: servers.collect(),
            require: self.require.into(),
            spool_seconds: self.outage.spool_seconds(),
            by,
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("version {} is unknown to this program", self.version));
        }
        check_servers(&self.servers)?;
        if self.files.len() > Files::COUNT_MAX {
            return Err(format!("it lists more than {} files", Files::COUNT_MAX));
        }
        if self.outage.timeout_seconds == 0 || self.outage.halt_after_seconds == 0 {
            return Err("a time-out of 0 seconds would halt the node at once".to_owned());
        }
        self.outage.spool.check()?;
        let grant = self.grant.verify().map_err(|error| error.to_string())?;
        if grant.node != self.node || grant.network != self.network {
            return Err("its grant speaks for another node or network".to_owned());
        }
        Ok(())
    }
}

impl From<RequireConfig> for Require {
    fn from(config: RequireConfig) -> Self {
        match config {
            RequireConfig::All => Self::All,
            RequireConfig::Majority => Self::Majority,
        }
    }
}

impl From<Require> for RequireConfig {
    fn from(require: Require) -> Self {
        match require {
            Require::All => Self::All,
            Require::Majority => Self::Majority,
        }
    }
}

/// Each server once, and as many as a policy may name.
fn check_servers(servers: &[ServerConfig]) -> Result<(), String> {
    if servers.is_empty() {
        return Err("it names no server".to_owned());
    }
    if servers.len() > Policy::SERVERS_MAX {
        return Err(format!("it names more than {} servers", Policy::SERVERS_MAX));
    }
    for (at, server) in servers.iter().enumerate() {
        let again = servers
            .iter()
            .skip(at + 1)
            .any(|other| other.key == server.key || other.url == server.url);
        if again {
            return Err(format!("it names {} twice", server.url));
        }
    }
    Ok(())
}

impl Directory {
    /// The configuration.
    pub fn config(&self) -> Result<Config, DirectoryError> {
        let config: Config =
            toml::from_str(&self.read(FILE)?).map_err(|error| self.bad(FILE, error.to_string()))?;
        config.check().map_err(|reason| self.bad(FILE, reason))?;
        Ok(config)
    }

    /// Writes the configuration.
    pub fn write_config(&self, config: &Config) -> Result<(), DirectoryError> {
        config.check().map_err(|reason| self.bad(FILE, reason))?;
        let text = toml::to_string(config).map_err(|error| self.bad(FILE, error.to_string()))?;
        self.write(
            FILE,
            &format!("# How this node is backed up. Written by `backstop setup`.\n\n{text}"),
        )
    }
}
