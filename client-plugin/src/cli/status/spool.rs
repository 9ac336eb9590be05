//! What `status` says of a spool.

use crate::{
    node::Node,
    spool::{SpoolError, Spooled},
};
use backstop_protocol::clock::UnixMillis;
use serde::Serialize;

/// Updates that the node acted on and that no server is known to have.
#[derive(Debug, Serialize)]
pub(super) struct SpoolStatus {
    /// How many, those included that a server took since.
    records: u64,
    bytes: u64,
    /// When it was begun, by this machine's clock.
    since: UnixMillis,
    age_seconds: u64,
    /// The operator's bounds.
    most_bytes: u64,
    most_seconds: u64,
}

impl SpoolStatus {
    pub(super) fn of(node: &Node) -> Result<Option<Self>, SpoolError> {
        let bounds = node.config.outage.spool;
        let spooled = Spooled::read(&node.directory.spool())?;
        Ok(spooled.map(|spooled| Self {
            records: spooled.records.len() as u64,
            bytes: spooled.len,
            since: spooled.since,
            age_seconds: node.ambient.clock.now().millis_since(spooled.since) / 1000,
            most_bytes: bounds.bytes,
            most_seconds: bounds.seconds,
        }))
    }

    pub(super) fn problem(&self) -> String {
        format!(
            "{} update(s) are in the spool since {} s, on this machine's disk alone: bring the servers back. The node goes on for at most {} \
             s after it last reached them, then it waits. Do not restore it elsewhere without them (restore --spool).",
            self.records, self.age_seconds, self.most_seconds
        )
    }

    pub(super) fn line(&self) -> String {
        format!(
            "spool      {} update(s), {} of {} bytes, begun {} s ago",
            self.records, self.bytes, self.most_bytes, self.age_seconds
        )
    }
}
