//! The live database, copied while lightningd waits for an answer (cln.md 3.2).
//!
//! Inside the hook the files are quiescent: lightningd is their only writer and stands still. Database, `-journal` and
//! `-wal` copied under matching names are what a crash would leave, and `SQLite` recovers them to the state before the
//! batch in question. The main file alone may be wrong and still pass `integrity_check`.
//!
//! The original is read as plain files, never through `SQLite`: closing any descriptor of it drops the POSIX locks that
//! this process has on it, so a connection of ours would be a trap.

use crate::replay::{self, ReplayError, SqliteError, check, companions};
use backstop_protocol::id::NodeId;
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// Name of the copy in the work directory.
const NAME: &str = "copy.sqlite3";
/// How many bytes are copied before the clock is looked at.
const PIECE: u64 = 64 << 20;

/// What the copy must turn out to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The version before the batch that waits; the batch's own where it holds PRAGMAs alone.
    pub data_version: u64,
    /// The node. A database that does not name its node yet is taken: lightningd's first start writes it last.
    pub node: NodeId,
}

/// What was found at the place of the live database.
#[derive(Debug, PartialEq, Eq)]
pub enum Copied {
    /// Nothing was ever committed: the log starts from nothing and needs no snapshot.
    BrandNew,
    /// The state before the batch, in one file that is complete by itself. The journal mode stays what the file says:
    /// a write-ahead log was folded in, a rollback journal rolled back, and neither is left beside it.
    /// The file is the caller's; it was not flushed.
    Copy(PathBuf),
}

/// Why there is no usable copy. The work directory holds nothing of it then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The files could not be read or written.
    #[error("the live database could not be copied: {0}")]
    Io(#[from] io::Error),
    /// Somebody wrote meanwhile, which lightningd does not do inside the hook.
    #[error("{0} changed while it was copied: another program writes to the node's database")]
    Moving(PathBuf),
    /// It took longer than allowed.
    #[error("copying the live database takes too long")]
    TooSlow,
    /// The copy could not be opened or recovered.
    #[error("the copy of the live database could not be opened: {0}")]
    Replay(#[from] ReplayError),
    /// The database is damaged.
    #[error("the live database is damaged: {0}")]
    Damaged(String),
    /// The copy is at another version than lightningd's batch says.
    #[error(
        "the copy of the live database is at data_version {found:?}, not at {expected} as lightningd says"
    )]
    Version {
        /// What lightningd's batch implies.
        expected: u64,
        /// What the copy says.
        found: Option<u64>,
    },
    /// The database belongs to another node.
    #[error("the live database belongs to node {found}, not to {expected}")]
    Node {
        /// The node that is backed up.
        expected: NodeId,
        /// The node in the database.
        found: NodeId,
    },
}

impl From<SqliteError> for CopyError {
    fn from(error: SqliteError) -> Self {
        Self::Replay(error.into())
    }
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Replay(error.into())
    }
}

/// Copies the live database into `work`, a directory of the plugin's own that is made where it is missing.
/// To be called inside the hook alone. Where the file system can share blocks, the copy costs next to nothing. Nobody may rely on it
/// before [`check()`].
pub fn copy(live: &Path, work: &Path, expected: Expected) -> Result<Copied, CopyError> {
    let taken = take(live, work, None)?;
    settle(&taken, expected)
}

/// The first half of [`copy`]: the files alone, under their names, as a crash would leave them. To be called inside the
/// hook alone; gives up with [`CopyError::TooSlow`] after `limit`. What it returns is for [`recover`].
pub fn take(live: &Path, work: &Path, limit: Option<Duration>) -> Result<PathBuf, CopyError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(work)?;
    let to = work.join(NAME);
    remove(&to)?;
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let copied = copy_files(live, &to, deadline);
    if copied.is_err() {
        // The first error is the one to report; what stays behind is removed by the next call.
        let _ = remove(&to);
    }
    copied.map(|()| to)
}

/// The second half of [`copy`], at any time, and the [`check()`]. Nothing of the copy stays unless it is whole and what was expected.
pub fn recover(taken: &Path, expected: Expected) -> Result<Copied, CopyError> {
    let settled = settle(taken, expected)?;
    if let Copied::Copy(path) = &settled {
        check(path)?;
    }
    Ok(settled)
}

/// What a crash would have left becomes one file. Nothing of it stays unless it is what was expected.
fn settle(taken: &Path, expected: Expected) -> Result<Copied, CopyError> {
    let settled = settled(taken, expected);
    if !matches!(settled, Ok(Copied::Copy(_))) {
        // As above.
        let _ = remove(taken);
    }
    settled
}

/// Reads every page of a copy; one that is damaged is removed. It writes nothing: others may read the copy meanwhile.
pub fn check(copy: &Path) -> Result<(), CopyError> {
    let checked = checked(copy);
    if checked.is_err() {
        // As above.
        let _ = remove(copy);
    }
    checked
}

fn checked(copy: &Path) -> Result<(), CopyError> {
    let conn = open(copy)?;
    if let Some(complaint) = check::integrity(&conn)? {
        return Err(CopyError::Damaged(complaint));
    }
    Ok(replay::settle(conn, copy)?)
}

/// Removes the copy, or what a crash left of one.
pub fn remove(copy: &Path) -> io::Result<()> {
    for path in companions(copy).iter().map(PathBuf::as_path).chain([copy]) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn copy_files(live: &Path, to: &Path, deadline: Option<Instant>) -> Result<(), CopyError> {
    // SQLite follows links, and keeps the journal beside the file itself.
    let live = fs::canonicalize(live)?;
    let pairs = companions(&live).into_iter().zip(companions(to)).take(2);
    let pairs: Vec<_> = [(live, to.to_owned())].into_iter().chain(pairs).collect();
    let before: Vec<_> = pairs
        .iter()
        .map(|(from, _)| stamp(from))
        .collect::<Result<_, _>>()?;
    for ((from, to), stamp) in pairs.iter().zip(&before) {
        if stamp.is_some() {
            copy_file(from, to, deadline)?;
        }
    }
    for ((from, _), before) in pairs.iter().zip(&before) {
        if stamp(from)? != *before {
            return Err(CopyError::Moving(from.clone()));
        }
    }
    Ok(())
}

/// Copies one file, piece by piece; the kernel shares blocks here where it can (`copy_file_range`).
fn copy_file(from: &Path, to: &Path, deadline: Option<Instant>) -> Result<(), CopyError> {
    let from = File::open(from)?;
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    while io::copy(&mut (&from).take(PIECE), &mut to)? > 0 {
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(CopyError::TooSlow);
        }
    }
    Ok(())
}

/// Length and time of the last change; `None` where there is no file.
fn stamp(path: &Path) -> io::Result<Option<(u64, SystemTime)>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.len(), found.modified()?))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open(copy: &Path) -> Result<Connection, CopyError> {
    let conn = Connection::open_with_flags(
        copy,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Before anything is read: a write-ahead log then needs no shared memory beside the file.
    conn.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY;")?;
    Ok(conn)
}

fn settled(copy: &Path, expected: Expected) -> Result<Copied, CopyError> {
    if fs::metadata(copy)?.len() == 0 {
        return Ok(Copied::BrandNew);
    }
    let conn = open(copy)?;
    // The first reading recovers. A first transaction that spilled leaves nothing once it is rolled back.
    let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages == 0 {
        return Ok(Copied::BrandNew);
    }
    let found = check::data_version(&conn)?;
    if found != Some(expected.data_version) {
        return Err(CopyError::Version {
            expected: expected.data_version,
            found,
        });
    }
    match check::node_id(&conn)? {
        Some(found) if found != expected.node => {
            return Err(CopyError::Node {
                expected: expected.node,
                found,
            });
        }
        _ => {}
    }
    replay::settle(conn, copy)?;
    Ok(Copied::Copy(copy.to_owned()))
}

#[cfg(test)]
mod tests;
