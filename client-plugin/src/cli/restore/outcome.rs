//! What a restore did, for programs.

use crate::restore::Restored;
use backstop_protocol::{
    api::SnapshotInfo,
    clock::UnixMillis,
    head::Head,
    id::{Network, NodeId},
};
use serde::Serialize;
use std::path::PathBuf;

/// What `--json` prints; members are added, never changed.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Where the database stands.
    database: PathBuf,
    database_bytes: u64,
    /// The node in it; `null` where lightningd's first start did not get far enough to write it.
    node: Option<NodeId>,
    network: Network,
    /// The head that the records were proved to lead to.
    head: Head,
    /// The last record that is in the database: below the head where an earlier state was asked for.
    seq: u64,
    /// CLN's counter in it.
    data_version: u64,
    /// When the server received the last record.
    received_at: Option<UnixMillis>,
    /// The snapshot that the restore began with; `null` where it began with the first record.
    snapshot: Option<SnapshotInfo>,
    /// Records that were applied to it.
    records: u64,
    elapsed_ms: u64,
    /// Whether the machine that wrote the backup until now is refused from here on. Where it is not, this is to be looked at, or only
    /// a person's word keeps two machines apart.
    fenced: bool,
    /// What else may have happened, in a sentence; `null` where nothing is missing.
    may_be_missing: Option<String>,
}

impl Outcome {
    /// Of this restore.
    pub(super) fn new(restored: Restored, network: Network, fenced: bool, missing: Option<String>) -> Self {
        Self {
            database: restored.database,
            database_bytes: restored.database_len,
            node: restored.node,
            network,
            head: restored.head,
            seq: restored.seq,
            data_version: restored.data_version,
            received_at: restored.received_at,
            snapshot: restored.snapshot,
            records: restored.records,
            elapsed_ms: restored.elapsed_ms,
            fenced,
            may_be_missing: missing,
        }
    }
}
