//! All that a device needs to read a node's backup, in one file: whose, where, and the grant. It holds no secret.

use crate::directory::{Config, ServerConfig};
use anyhow::{Context as _, ensure};
use backstop_protocol::{
    grant::{Grant, SignedGrant},
    id::{Network, NodeId},
};
use serde::{Deserialize, Serialize};

/// What `backstop grant` prints and `backstop mirror` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ticket {
    /// Version of this file, 1.
    version: u8,
    /// The node.
    pub(crate) node: NodeId,
    /// Its network.
    pub(crate) network: Network,
    /// What the node signed for the device's access key.
    pub(crate) grant: SignedGrant,
    /// Where the backup is, each server with the key that the node pinned.
    #[serde(rename = "server")]
    pub(crate) servers: Vec<ServerConfig>,
}

impl Ticket {
    /// For the servers of a node's configuration.
    pub(super) fn new(config: &Config, grant: SignedGrant) -> Self {
        Self {
            version: 1,
            node: config.node,
            network: config.network,
            grant,
            servers: config.servers.clone(),
        }
    }

    /// The file.
    pub(crate) fn to_text(&self) -> anyhow::Result<String> {
        Ok(format!(
            "# A grant to read a node's backup, for `backstop mirror`. It holds no secret.\n\n{}",
            toml::to_string(self)?
        ))
    }

    /// Reads the file and checks what the node signed.
    pub(crate) fn parse(text: &str) -> anyhow::Result<(Self, Grant)> {
        let ticket: Self = toml::from_str(text).context("this is not what `backstop grant` printed")?;
        ensure!(
            ticket.version == 1,
            "it is of version {}, which this program does not know",
            ticket.version
        );
        let grant = ticket.grant.verify()?;
        ensure!(
            (grant.node, grant.network) == (ticket.node, ticket.network),
            "its grant speaks of another node or network"
        );
        ensure!(!ticket.servers.is_empty(), "it names no server");
        Ok((ticket, grant))
    }
}
