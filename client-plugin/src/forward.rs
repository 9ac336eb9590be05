//! Brings an existing database forward by the batches that the backup has and it lacks (I5).
//!
//! `restore` makes a new file; this touches the node's own. So what is applied must belong there: either the database
//! is known to stand on this chain, or the state at its version is rebuilt from the backup first and must be equal.

use crate::{
    node::Node,
    record::{Batch, Content, OpenError, Opener},
    remote::RemoteError,
    replay::{Replay, ReplayError, SqliteError, compare},
    restore::{self, Goal, Request, RestoreError, Until},
    spool::Source,
};
use backstop_protocol::{head::Head, id::RunId, record::record_hash};
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};

/// Why a database was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A record that this node's key does not open.
    #[error("a record cannot be opened: {0}")]
    Record(#[from] OpenError),
    /// A batch did not apply. It was undone; those before it stay, and the backup has the rest.
    #[error("an update does not fit this database: {0}")]
    Replay(#[from] ReplayError),
    /// The log on the server does not reach back to this database's version.
    #[error("the backup's log does not reach back to this database")]
    TooOld,
    /// A gap was bridged by a snapshot after this database's version.
    #[error("a snapshot stands between this database and the backup's newest state")]
    Gap,
    /// A run that the caller does not accept wrote one of the batches.
    #[error("another machine wrote some of the missing updates")]
    Foreign,
    /// The state at this database's version could not be rebuilt.
    #[error("the backup's state of the same version cannot be rebuilt to compare with: {0}")]
    Rebuild(#[from] RestoreError),
    /// The rebuilt state, or the database, could not be read.
    #[error("the comparison with the backup failed: {0}")]
    Compare(#[from] SqliteError),
    /// The database is not what the backup had at that version.
    #[error("this database is not the one that was backed up: {0}")]
    Different(compare::Difference),
    /// A file in the work directory.
    #[error("{0}")]
    Work(String),
}

/// Fetches the records from `from` to `head`, and checks that they end in it.
pub async fn records_to_head(
    session: &impl Source,
    from: u64,
    head: Head,
) -> Result<Vec<Bytes>, RemoteError> {
    let nonsense = |reason: &str| RemoteError::Protocol {
        url: session.url().to_owned(),
        reason: reason.to_owned(),
    };
    let mut records: Vec<Bytes> = Vec::new();
    let mut next = from;
    while next <= head.seq {
        let page = session.records(next).await?;
        if page.is_empty() {
            return Err(nonsense("its log ends before its head"));
        }
        for (_, sealed) in page {
            // What came after the head that was named is of no interest here.
            if next <= head.seq {
                records.push(sealed);
            }
            next += 1;
        }
    }
    match records.last() {
        Some(last) if record_hash(last) == head.hash => Ok(records),
        _ => Err(nonsense("its head is not the last record of its log")),
    }
}

/// The batches that lead from version `database` to the head, in order; `accepts` says whose.
pub async fn missing_batches(
    node: &Node,
    session: &impl Source,
    head: Head,
    database: u64,
    accepts: impl Fn(RunId) -> bool,
) -> Result<Vec<Batch>, ForwardError> {
    let records = readable_records(node, session, head, database).await?;
    let mut opener = Opener::new(&node.keys.record);
    let mut missing = Vec::new();
    for sealed in &records {
        let (_, content) = opener.open(sealed)?;
        match content {
            Content::Batch(batch) if batch.data_version > database || in_force(&batch, database) => {
                if !accepts(batch.run) {
                    return Err(ForwardError::Foreign);
                }
                missing.push(batch);
            }
            Content::Gap(gap) if gap.data_version > database => return Err(ForwardError::Gap),
            _ => {}
        }
    }
    Ok(missing)
}

/// Records up to the head, from a place where the codec's state begins and the database's version was reached.
async fn readable_records(
    node: &Node,
    session: &impl Source,
    head: Head,
    database: u64,
) -> Result<Vec<Bytes>, ForwardError> {
    let opener = Opener::new(&node.keys.record);
    let mut from = head.seq;
    while from > 0 {
        let records = records_to_head(session, from, head).await?;
        let Some(first) = records.first() else { break };
        let first = opener.peek(first)?;
        // The log of a node that was new begins with nothing.
        let begins = database == 0 && from == 1;
        let is_there = first.data_version.is_some_and(|version| version <= database);
        if begins || first.context_seq == from && is_there {
            return Ok(records);
        }
        // Each step goes back by one whole context, so the tail is fetched few times.
        from = if first.context_seq < from {
            first.context_seq
        } else {
            from - 1
        };
    }
    Err(ForwardError::TooOld)
}

/// A PRAGMA batch at the database's own version applies to the batch after it.
fn in_force(batch: &Batch, database: u64) -> bool {
    batch.outside_transaction && batch.data_version == database
}

/// Rebuilds the backup's state of `version` in the work directory, and compares it with `replay`'s database, table by
/// table.
pub async fn prove_equal(
    node: &Node,
    session: &impl Source,
    head: Head,
    replay: &Replay,
    version: u64,
) -> Result<(), ForwardError> {
    let work = node
        .directory
        .work()
        .map_err(|error| ForwardError::Work(error.to_string()))?;
    let rebuilt = Rebuilt(work.join("rebuilt.sqlite3"));
    rebuilt.remove();
    let request = Request {
        keys: &node.keys,
        node: node.config.node,
        server: session.server(),
        policy: None,
        // Whoever writes now may go on: what is compared lies behind.
        goal: Goal::Seen(head),
        until: Some(Until::Version(version)),
        database: rebuilt.path(),
    };
    restore::restore(session, &request, &*node.ambient.clock, &mut |_| {}).await?;
    let other = Connection::open_with_flags(rebuilt.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(SqliteError::from)?;
    match compare::difference(replay.database(), &other)? {
        None => Ok(()),
        Some(difference) => Err(ForwardError::Different(difference)),
    }
}

/// A rebuilt database; removed when it is no longer needed.
struct Rebuilt(PathBuf);

impl Rebuilt {
    fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) {
        let _ = crate::snapshot::copy::remove(&self.0);
    }
}

impl Drop for Rebuilt {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next comparison.
        self.remove();
    }
}
