//! Why nothing was restored. Each sentence says what is wrong; none quotes content (I11).

use crate::{
    record::{OpenError, Policy},
    remote::RemoteError,
    replay::{self, ReplayError, SqliteError},
    snapshot::{BadManifest, FetchError},
};
use backstop_protocol::{
    bytes::Malformed,
    head::Head,
    id::{NodeId, RecordHash, SnapshotId, TimelineId},
};
use std::{io, path::PathBuf};

/// Why nothing was restored. No file was put in place, and none of ours was left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is a database already, or a part of one.
    #[error(
        "{} exists, and a restore never touches a node's database: restore into an empty directory, \
         or move that file away if it is not wanted", .0.display()
    )]
    Exists(PathBuf),
    /// Another restore works there.
    #[error("another restore is at work in {}", .0.display())]
    Busy(PathBuf),
    /// No room.
    #[error("there is no room for the database: make some and restore again; nothing was put in place")]
    Full,
    /// The operating system refused.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The account holds no batch.
    #[error("the server keeps no backup of this node: it never received a batch of its database")]
    Nothing,
    /// The log's beginning is gone and no complete snapshot leads to what is left of it.
    #[error("the server's log begins at record {first_seq}, and no complete snapshot leads to it")]
    NoBase {
        /// The first record that the log still holds.
        first_seq: u64,
    },
    /// A gap that nothing bridges.
    #[error(
        "at record {seq} the database went on outside the log, and snapshot {snapshot}, which alone holds what \
         happened, is not complete: the state after it cannot be rebuilt"
    )]
    Gap {
        /// The gap record.
        seq: u64,
        /// The snapshot that it names.
        snapshot: SnapshotId,
    },
    /// The records are not the chain that they must be.
    #[error("the server's log is not the chain that the node wrote: {0}")]
    Chain(#[from] BadChain),
    /// A record could not be opened.
    #[error("record {seq} cannot be used: {error}")]
    Record {
        /// The record.
        seq: u64,
        /// Why.
        error: OpenError,
    },
    /// A record could not be applied.
    #[error("record {seq} does not fit the database: {error}")]
    Replay {
        /// The record.
        seq: u64,
        /// Why.
        error: ReplayError,
    },
    /// A manifest could not be opened.
    #[error("snapshot {snapshot} cannot be used: {error}")]
    Manifest {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Why.
        error: BadManifest,
    },
    /// The server's list and the sealed manifest disagree.
    #[error("what the server says about snapshot {0} is not what the node wrote about it")]
    Foreign(SnapshotId),
    /// The snapshot could not be downloaded.
    #[error(transparent)]
    Fetch(FetchError),
    /// The restored database could not be asked.
    #[error("the restored database cannot be read: {0}")]
    Database(SqliteError),
    /// `integrity_check` failed.
    #[error("the restored database is damaged: {0}")]
    Damaged(String),
    /// `foreign_key_check` failed.
    #[error("the restored database is damaged: row {} of table {table} refers to a row of {parent} that is not there",
        rowid.map_or_else(|| "?".to_owned(), |rowid| rowid.to_string()))]
    Orphan {
        /// The table.
        table: String,
        /// Its row.
        rowid: Option<i64>,
        /// The table referred to.
        parent: String,
    },
    /// The node said that it writes to other servers than this one.
    #[error("the node went on with its backup at {urls}: what this server has is old; restore from there")]
    Elsewhere {
        /// The servers it named.
        urls: String,
    },
    /// The node's last word on its servers is newer than the one by which they were asked.
    #[error("the node went on with other servers, which must be asked too")]
    Policy(Box<Policy>),
    /// The database belongs to another node.
    #[error("the backup holds the database of node {found}, not of {expected}")]
    Node {
        /// The node that was asked for.
        expected: NodeId,
        /// The node in the database.
        found: NodeId,
    },
    /// The database is at another version than the log says.
    #[error("the restored database is at data_version {found:?}, the backup at {expected}")]
    Version {
        /// What the log, or the manifest, says.
        expected: u64,
        /// What the database says.
        found: Option<u64>,
    },
    /// Somebody wrote after this restore had fenced the node off.
    #[error(
        "the backup went on while it was restored (head {now}, fenced at {fenced}): another machine took over"
    )]
    Moved {
        /// The head at which this restore took over.
        fenced: Head,
        /// The head now.
        now: Head,
    },
    /// The server did not answer as it must.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// In what the records of a log are not a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChain {
    /// Not a record at all.
    #[error("record {seq} is malformed: {error}")]
    Malformed {
        /// Where it should have been.
        seq: u64,
        /// What is wrong.
        error: Malformed,
    },
    /// Another record than the next one.
    #[error("record {found} comes where {expected} should")]
    Seq {
        /// The next one.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// A record of another history.
    #[error("record {seq} belongs to timeline {found}")]
    Timeline {
        /// The record.
        seq: u64,
        /// Its timeline.
        found: TimelineId,
    },
    /// The record before is another one than the record names.
    #[error("record {seq} does not follow the one before it")]
    Prev {
        /// The record.
        seq: u64,
    },
    /// The epoch falls.
    #[error("record {seq} is of an older epoch than the one before it")]
    Epoch {
        /// The record.
        seq: u64,
    },
    /// The record on which the snapshot stands is another one.
    #[error("record {seq} is not the one on which the snapshot stands")]
    Base {
        /// The record.
        seq: u64,
    },
    /// The log ends before its head.
    #[error("it ends after record {reached}, its head is {head}")]
    Short {
        /// The last record that came.
        reached: u64,
        /// The head's seq.
        head: u64,
    },
    /// The last record is not the head.
    #[error("its last record has the hash {found}, its head {expected}")]
    Head {
        /// The head's hash.
        expected: RecordHash,
        /// The record's.
        found: RecordHash,
    },
}

impl RestoreError {
    /// Whether the line or the server went away in the middle: what came until then is as good as before.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Remote(error) if error.is_passing())
    }

    /// Whether what the server holds leads to no database, as opposed to a machine or a line that fails.
    #[must_use]
    pub fn blames_backup(&self) -> bool {
        match self {
            Self::NoBase { .. }
            | Self::Gap { .. }
            | Self::Chain(_)
            | Self::Record { .. }
            | Self::Manifest { .. }
            | Self::Foreign(_)
            | Self::Damaged(_)
            | Self::Orphan { .. }
            | Self::Node { .. }
            | Self::Version { .. } => true,
            Self::Replay { error, .. } => error.blames_batch(),
            Self::Fetch(error) => matches!(
                error,
                FetchError::Missing(_) | FetchError::Damaged { .. } | FetchError::Place(_)
            ),
            _ => false,
        }
    }

    /// An I/O error at `path`; a full disk by its own name.
    pub(super) fn io(path: impl Into<PathBuf>, error: io::Error) -> Self {
        let path = path.into();
        if replay::is_full(&error) {
            Self::Full
        } else {
            Self::Io { path, error }
        }
    }
}
