//! A database of no lasting worth beside a file that is taken apart or put together.
//!
//! A large database has millions of chunks, and each needs some words about it while it travels. They lie here and not
//! in memory, which is bounded whatever the size of the database; those of a small one stay in the cache.

use crate::replay::SqliteError;
use rusqlite::{CachedStatement, Connection, Params};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How many KiB of it are kept in memory: all of it up to a database of 1 GiB or so. Of a larger one the rest is with the system, which
/// hands a page over in less time than the chunk that it tells of takes to be named.
const CACHE: u32 = 4 << 10;

/// The database, and its file; removed when it is no longer needed.
#[derive(Debug)]
pub(super) struct Scratch {
    conn: Connection,
    path: PathBuf,
}

impl Scratch {
    /// On the disk beside `file`, with these tables. What a killed process left there is removed.
    pub(super) fn beside(file: &Path, tables: &str) -> Result<Self, ScratchError> {
        let path = beside(file, "scratch");
        remove(&path)?;
        Self::of(Connection::open(&path)?, path, tables)
    }

    fn of(conn: Connection, path: PathBuf, tables: &str) -> Result<Self, ScratchError> {
        let scratch = Self { conn, path };
        let settings = format!(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-{CACHE};"
        );
        // One transaction for its whole life: there is nothing to go back to.
        scratch
            .conn
            .execute_batch(&format!("{settings} {tables} BEGIN;"))?;
        Ok(scratch)
    }

    /// A statement, prepared once.
    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, SqliteError> {
        Ok(self.conn.prepare_cached(sql)?)
    }

    /// Executes a statement; how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, SqliteError> {
        Ok(self.statement(sql)?.execute(params)?)
    }

    /// The number that a statement gives.
    pub(super) fn number(&self, sql: &str) -> Result<u64, SqliteError> {
        Ok(self.statement(sql)?.query_row([], |row| row.get(0))?)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one.
        let _ = remove(&self.path);
    }
}

/// Why the words about chunks could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The file could not be made or read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The database in it.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
}

impl From<rusqlite::Error> for ScratchError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.into())
    }
}

impl ScratchError {
    /// Whether there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io(error) => crate::replay::is_full(error),
            Self::Sqlite(error) => error.is_full(),
        }
    }
}

/// The name of a file beside `file`.
pub(super) fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
