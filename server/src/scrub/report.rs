//! What a scrub found.

use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};
use serde::Serialize;
use std::fmt;

/// What can be wrong. The names are part of the report and of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// A record's bytes do not have its hash, or its header says another place.
    RecordDamaged,
    /// A record is not there, or does not name the one before it.
    ChainBroken,
    /// The log does not end in the head.
    HeadWrong,
    /// A snapshot's manifest is not what its row says.
    ManifestDamaged,
    /// A snapshot rests on a record that the log does not have.
    SnapshotOffChain,
    /// A pack is not there.
    PackLost,
    /// A pack's bytes do not have the hash in its name.
    PackDamaged,
    /// The index names chunks that are not in the pack as it says.
    IndexWrong,
    /// The files beside a database are none.
    FilesDamaged,
    /// A row cannot be read.
    Unreadable,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 10] = [
        Self::RecordDamaged,
        Self::ChainBroken,
        Self::HeadWrong,
        Self::ManifestDamaged,
        Self::SnapshotOffChain,
        Self::PackLost,
        Self::PackDamaged,
        Self::IndexWrong,
        Self::FilesDamaged,
        Self::Unreadable,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RecordDamaged => "record_damaged",
            Self::ChainBroken => "chain_broken",
            Self::HeadWrong => "head_wrong",
            Self::ManifestDamaged => "manifest_damaged",
            Self::SnapshotOffChain => "snapshot_off_chain",
            Self::PackLost => "pack_lost",
            Self::PackDamaged => "pack_damaged",
            Self::IndexWrong => "index_wrong",
            Self::FilesDamaged => "files_damaged",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether the node's next snapshot heals it.
    pub(crate) fn heals(self) -> bool {
        matches!(self, Self::PackLost | Self::PackDamaged | Self::IndexWrong)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// Whose.
    pub(crate) node: Option<NodeId>,
    pub(crate) network: Option<Network>,
    /// The account's number, by which logs and the pack store name it.
    pub(crate) account: i64,
    /// What it concerns: a record's seq, a snapshot, a pack.
    pub(crate) object: String,
    /// What was found.
    pub(crate) detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: account {}", self.kind, self.account)?;
        if let (Some(node), Some(network)) = (self.node, self.network) {
            write!(f, " ({node} on {network})")?;
        }
        write!(f, ", {}: {}", self.object, self.detail)
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) began_at: UnixMillis,
    pub(crate) ended_at: UnixMillis,
    pub(crate) accounts: u64,
    pub(crate) records: u64,
    pub(crate) record_bytes: u64,
    pub(crate) snapshots: u64,
    pub(crate) packs: u64,
    pub(crate) pack_bytes: u64,
    pub(crate) chunks: u64,
    /// Packs that were marked as damaged and are whole.
    pub(crate) healed: u64,
    /// Packs that the database does not know of. They cost room, and nothing else.
    pub(crate) orphans: u64,
    pub(crate) orphan_bytes: u64,
    pub(crate) faults: Vec<Fault>,
}

impl Report {
    pub(crate) fn begin(now: UnixMillis) -> Self {
        Self {
            began_at: now,
            ended_at: now,
            accounts: 0,
            records: 0,
            record_bytes: 0,
            snapshots: 0,
            packs: 0,
            pack_bytes: 0,
            chunks: 0,
            healed: 0,
            orphans: 0,
            orphan_bytes: 0,
            faults: Vec::new(),
        }
    }
}

/// For a person.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ended_at.millis_since(self.began_at) / 1000;
        writeln!(
            f,
            "{} accounts: {} records ({} bytes), {} snapshots, {} packs ({} bytes) with {} chunks, in {seconds} s",
            self.accounts,
            self.records,
            self.record_bytes,
            self.snapshots,
            self.packs,
            self.pack_bytes,
            self.chunks,
        )?;
        if self.healed > 0 {
            writeln!(f, "{} packs that were damaged are whole again", self.healed)?;
        }
        if self.orphans > 0 {
            writeln!(
                f,
                "{} packs ({} bytes) are in the pack store that the database does not know of; they cost room, and no backup needs them",
                self.orphans, self.orphan_bytes
            )?;
        }
        if self.faults.is_empty() {
            return writeln!(f, "everything is as it was acknowledged");
        }
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        let count = self.faults.len();
        writeln!(f, "\n{count} things are wrong.")?;
        if self.faults.iter().any(|fault| fault.kind.heals()) {
            f.write_str(
                "What a lost or damaged pack held is sent again with the node's next snapshot. To have it soon, run for each node:
    backstop-server node rollup NODE
and scrub again afterwards. Until then a restore of what needs these packs may fail.
",
            )?;
        }
        if self.faults.iter().any(|fault| !fault.kind.heals()) {
            f.write_str(
                "What the database itself lost does not come back by itself. Keep a copy of it as it is, restore the last good copy
beside it, and tell the owners of the nodes named above: their nodes run on, but a restore may stop where the fault is.
A snapshot above the fault makes the backup whole again: backstop-server node rollup NODE
",
            )?;
        }
        Ok(())
    }
}
