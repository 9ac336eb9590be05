//! Records applied to a database (I5, I9).
//!
//! Batch by batch, each in a transaction of its own, `foreign_keys` on at each run's start; batches of PRAGMAs outside
//! any transaction. The batch's own last statement raises `vars.data_version` from its predecessor: it must change
//! exactly one row, and that catches every gap and every repetition for free (cln.md 1.5).

pub mod check;
pub mod compare;
mod error;
mod statement;
#[cfg(test)]
mod tests;

pub use error::{ReplayError, SqliteError, is_full};

use crate::{durable, record::Batch};
use backstop_protocol::id::RunId;
use rusqlite::{Connection, OpenFlags};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// What a power cut may cost while batches are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: each batch is on the disk when [`Replay::apply`] returns. For a database that lightningd will open;
    /// it must exist. The journal mode stays as the file has it; `synchronous=EXTRA` also flushes the directory
    /// after a journal's unlink, which is what brought the database back in the first place (I5).
    Full,
    /// The whole file: flushed once, in [`Replay::finish`]. For a file that nobody else knows yet; it is created
    /// where it is missing.
    Off,
    /// The whole file, but a kill of this process costs nothing: what was applied is with the operating system. For
    /// the shadow, which can be made again; it is created where it is missing.
    Process,
}

/// A database to which batches are applied.
pub struct Replay {
    conn: Connection,
    path: PathBuf,
    durability: Durability,
    /// `data_version` as the last batch left it; nobody else writes meanwhile.
    version: Option<u64>,
    /// The run whose batch was applied last.
    run: Option<RunId>,
}

impl Replay {
    /// Opens the database. A journal or write-ahead log beside it is recovered first, as `SQLite` does.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, ReplayError> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        flags.set(OpenFlags::SQLITE_OPEN_CREATE, durability != Durability::Full);
        let conn = Connection::open_with_flags(path, flags)?;
        // Nothing else may hold the file: waiting would hide that something does.
        conn.busy_timeout(Duration::ZERO)?;
        // Channel secrets must not spill into the system's temporary directory.
        pragma(&conn, "temp_store=MEMORY")?;
        match durability {
            Durability::Full => pragma(&conn, "synchronous=EXTRA")?,
            Durability::Off => unsynced(&conn, "MEMORY")?,
            Durability::Process => unsynced(&conn, "TRUNCATE")?,
        }
        pragma(&conn, "foreign_keys=ON")?;
        let version = check::data_version(&conn)?;
        Ok(Self {
            conn,
            path: path.to_owned(),
            durability,
            version,
            run: None,
        })
    }

    /// Applies one batch; on an error the database stays as it was before it, as far as it ran in a transaction.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), ReplayError> {
        let follows = match self.version {
            None => true,
            Some(version) if batch.outside_transaction => version == batch.data_version,
            Some(version) => version.checked_add(1) == Some(batch.data_version),
        };
        if !follows {
            return Err(self.out_of_order(batch));
        }
        // A run may also begin with a record that is no batch.
        if batch.opens_run || self.run != Some(batch.run) {
            pragma(&self.conn, "foreign_keys=ON")?;
        }
        if batch.outside_transaction {
            self.execute_all(batch)?;
            self.expect_version(batch)?;
        } else {
            self.apply_in_transaction(batch)?;
        }
        self.version = Some(batch.data_version);
        self.run = Some(batch.run);
        Ok(())
    }

    fn apply_in_transaction(&self, batch: &Batch) -> Result<(), ReplayError> {
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let applied = self.execute_all(batch).and_then(|()| {
            // The statement executed last is the version update.
            if self.conn.changes() != 1 {
                return Err(self.out_of_order(batch));
            }
            self.expect_version(batch)?;
            Ok(self.conn.execute_batch("COMMIT")?)
        });
        if applied.is_err() && !self.conn.is_autocommit() {
            // The first error is the one to report; what cannot be rolled back now ends with the connection.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
        applied
    }

    /// CLN's counter in the database; `None` before the batch that creates it.
    pub fn data_version(&self) -> Option<u64> {
        self.version
    }

    /// Whether foreign keys are enforced. Between lightningd's two PRAGMA batches they are not; a snapshot based
    /// there would be continued with the wrong setting, so none may be taken.
    pub fn foreign_keys(&self) -> Result<bool, ReplayError> {
        Ok(self.conn.query_row("PRAGMA foreign_keys", [], |row| row.get(0))?)
    }

    /// The database, for questions.
    pub fn database(&self) -> &Connection {
        &self.conn
    }

    /// Ends the work without flushing: the file is complete by itself, as other processes and this one read it.
    pub fn close(self) -> Result<(), ReplayError> {
        settle(self.conn, &self.path)
    }

    /// Ends the work: without [`Durability::Full`] the file is complete by itself and flushed afterwards.
    pub fn finish(self) -> Result<(), ReplayError> {
        let Self {
            conn,
            path,
            durability,
            ..
        } = self;
        match durability {
            Durability::Full => conn.close().map_err(|(_, error)| error)?,
            Durability::Off | Durability::Process => {
                settle(conn, &path)?;
                durable::sync_file(&path)?;
            }
        }
        Ok(())
    }

    fn execute_all(&self, batch: &Batch) -> Result<(), ReplayError> {
        for (index, bytes) in batch.statements.iter().enumerate() {
            statement::execute(&self.conn, bytes).map_err(|reason| ReplayError::Statement {
                data_version: batch.data_version,
                number: index + 1,
                reason: Box::new(reason),
            })?;
        }
        Ok(())
    }

    fn expect_version(&self, batch: &Batch) -> Result<(), ReplayError> {
        if check::data_version(&self.conn)? == Some(batch.data_version) {
            Ok(())
        } else {
            Err(self.out_of_order(batch))
        }
    }

    fn out_of_order(&self, batch: &Batch) -> ReplayError {
        ReplayError::Version {
            batch: batch.data_version,
            database: self.version,
        }
    }
}

/// Closes the last connection to a database so that the file alone is the whole of it: a write-ahead log is folded in.
pub fn settle(conn: Connection, path: &Path) -> Result<(), ReplayError> {
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode == "wal" {
        let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy != 0 {
            return Err(SqliteError {
                code: rusqlite::ffi::SQLITE_BUSY,
            }
            .into());
        }
    }
    conn.close().map_err(|(_, error)| error)?;
    // What is left now is empty or spent: SQLite leaves a journal that never became hot where it is.
    remove_companions(path)?;
    Ok(())
}

/// Prepares a file that nobody else has open, and that is not flushed before its end.
fn unsynced(conn: &Connection, journal: &str) -> Result<(), SqliteError> {
    // Exclusive first: a write-ahead log then needs no shared memory beside the file.
    pragma(conn, "locking_mode=EXCLUSIVE")?;
    pragma(conn, "synchronous=OFF")?;
    // A node in WAL mode gets its database back in WAL mode: the mode is written in the file.
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        pragma(conn, &format!("journal_mode={journal}"))?;
    }
    pragma(conn, "cache_size=-16384")
}

/// Runs one PRAGMA and drops what it answers.
fn pragma(conn: &Connection, setting: &str) -> Result<(), SqliteError> {
    let mut statement = conn.prepare(&format!("PRAGMA {setting}"))?;
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Files that belong to a database: `-journal`, `-wal`, `-shm`.
#[must_use]
pub fn companions(path: &Path) -> [PathBuf; 3] {
    ["-journal", "-wal", "-shm"].map(|suffix| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    })
}

fn remove_companions(path: &Path) -> std::io::Result<()> {
    for companion in companions(path) {
        match std::fs::remove_file(companion) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
