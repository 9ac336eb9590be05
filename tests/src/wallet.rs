//! The database as lightningd owns it: lazy transactions, the version guard last, and what a crash or a power cut
//! leaves of it (CLN reference 1.3, 3.1, 3.2; design I5).

use crate::{disk, statement::Statement};
use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OptionalExtension};
use std::{
    collections::VecDeque,
    fs::File,
    path::{Path, PathBuf},
};

/// SQLite's journal mode; it persists in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Journal {
    /// A rollback journal whose unlink is the commit: CLN's default.
    #[default]
    Delete,
    /// A write-ahead log, where the operator chose it.
    Wal,
}

/// How a wallet is opened.
#[derive(Clone, Copy, Debug)]
pub struct WalletOptions {
    /// Set at the first start on a file that is not new; afterwards the file says.
    pub journal: Journal,
    /// `synchronous=FULL` as lightningd has it; off only where a test replays thousands of batches.
    pub fsync: bool,
    /// How many older states are kept for [`Wallet::power_cut`] on a disk that lies about flushing.
    pub keep_states: usize,
}

impl Default for WalletOptions {
    fn default() -> Self {
        Self {
            journal: Journal::Delete,
            fsync: true,
            keep_states: 0,
        }
    }
}

/// An open database and its open transaction.
pub struct Wallet {
    // Before `raw`: SQLite's locks are the process's, and closing any handle of the file drops them.
    connection: Connection,
    raw: File,
    path: PathBuf,
    options: WalletOptions,
    journal: Journal,
    in_transaction: bool,
    /// As the last commit left it.
    version: u64,
    /// Statements of the open transaction as the hook reports them.
    writes: Vec<Vec<u8>>,
    /// A second name of the last committed transaction's journal: its bytes as they were at the unlink.
    kept_journal: PathBuf,
    has_kept_journal: bool,
    /// Older contents of the main file, newest last.
    states: VecDeque<(u64, Vec<u8>)>,
}

impl Wallet {
    /// Opens or creates it as lightningd does. SQLite rolls back a hot journal at the first read here.
    pub fn open(path: &Path, options: WalletOptions) -> Result<Self> {
        let raw = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_mins(1))?;
        connection.execute_batch("PRAGMA foreign_keys=ON;")?;
        if !options.fsync {
            connection.execute_batch("PRAGMA synchronous=OFF;")?;
        }
        let mode = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
        // An operator changes the mode of a database that is there; lightningd itself never does.
        let new = raw.metadata()?.len() == 0;
        if !new && options.journal == Journal::Wal {
            mode("PRAGMA journal_mode=WAL")?;
        }
        let journal = if mode("PRAGMA journal_mode")? == "wal" {
            Journal::Wal
        } else {
            Journal::Delete
        };
        let version = version_of(&connection)?.unwrap_or(0);
        let kept_journal = disk::beside(path, ".kept-by-simulated-disk");
        disk::remove(&kept_journal)?;
        Ok(Self {
            connection,
            raw,
            path: path.to_owned(),
            options,
            journal,
            in_transaction: false,
            version,
            writes: Vec::new(),
            kept_journal,
            has_kept_journal: false,
            states: VecDeque::new(),
        })
    }

    /// The version after the last commit.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How it is journalled, as the file says.
    pub fn journal(&self) -> Journal {
        self.journal
    }

    /// For reading; whoever writes goes through [`Self::execute`].
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Executes a statement, in a transaction that the first one begins.
    pub fn execute(&mut self, statement: &Statement) -> Result<()> {
        self.begin()?;
        statement
            .execute(&self.connection)
            .with_context(|| text(&statement.expanded()))?;
        self.writes.push(statement.expanded());
        Ok(())
    }

    /// Executes the text of a recorded statement.
    pub fn execute_recorded(&mut self, write: &str) -> Result<()> {
        self.begin()?;
        self.connection
            .execute(write, [])
            .with_context(|| text(write.as_bytes()))?;
        self.writes.push(write.as_bytes().to_vec());
        Ok(())
    }

    /// Executes outside any transaction and without raising the version, as migrations do with a PRAGMA.
    pub fn execute_outside(&mut self, sql: &str) -> Result<()> {
        ensure!(!self.in_transaction, "a transaction is open");
        Ok(self.connection.execute_batch(sql)?)
    }

    fn begin(&mut self) -> Result<()> {
        if !self.in_transaction {
            self.connection.execute_batch("BEGIN TRANSACTION;")?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// The last statement of every transaction; the version after it and what the hook is to be told.
    pub fn raise_version(&mut self) -> Result<(u64, Vec<Vec<u8>>)> {
        ensure!(self.in_transaction, "nothing was written");
        let guard = format!(
            "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {}",
            self.version
        );
        ensure!(
            self.connection.execute(&guard, [])? == 1,
            "Optimistic lock on the database failed"
        );
        self.writes.push(guard.into_bytes());
        Ok((self.version + 1, std::mem::take(&mut self.writes)))
    }

    /// Takes a recorded batch for what it is: its own guard is among its statements already.
    pub fn take_recorded_version(&mut self, version: u64) -> Result<Vec<Vec<u8>>> {
        ensure!(
            version_of(&self.connection)? == Some(version),
            "the recorded batch is not that of {version}"
        );
        Ok(std::mem::take(&mut self.writes))
    }

    /// COMMIT. The journal's bytes are kept under a second name beforehand: its unlink is what a power cut undoes.
    pub fn commit(&mut self) -> Result<()> {
        ensure!(self.in_transaction, "no transaction is open");
        let journal = disk::beside(&self.path, "-journal");
        disk::remove(&self.kept_journal)?;
        self.has_kept_journal = self.journal == Journal::Delete && journal.exists();
        if self.has_kept_journal {
            std::fs::hard_link(&journal, &self.kept_journal)?;
        }
        if self.options.keep_states > 0 && self.journal == Journal::Delete {
            // Not spilled, the main file still is what the last commit left; spilled, it is of no use.
            if !disk::is_hot(&journal)? {
                self.states.push_back((self.version, disk::read_open(&self.raw)?));
            }
            while self.states.len() > self.options.keep_states {
                self.states.pop_front();
            }
        }
        self.connection.execute_batch("COMMIT;")?;
        self.in_transaction = false;
        self.version += 1;
        Ok(())
    }

    /// The unreported rewrite of the whole file after a migration.
    pub fn vacuum(&mut self) -> Result<()> {
        ensure!(!self.in_transaction, "a transaction is open");
        // Its own transaction: what was kept of the last one no longer fits the file.
        self.has_kept_journal = false;
        self.states.clear();
        Ok(self.connection.execute_batch("VACUUM;")?)
    }

    /// A consistent copy of the committed state, while it is open.
    pub fn copy_to(&self, path: &Path) -> Result<()> {
        ensure!(!self.in_transaction, "a transaction is open");
        Ok(self.connection.backup("main", path, None)?)
    }

    /// Closes it as a clean shutdown does.
    pub fn close(self) -> Result<()> {
        self.connection.close().map_err(|(_, error)| error)?;
        disk::remove(&self.kept_journal)
    }

    /// Leaves the files as they stand now, an open transaction included: lightningd was killed or died by itself.
    pub fn crash(self) -> Result<()> {
        let main = disk::read_open(&self.raw)?;
        let journal = disk::read(&disk::beside(&self.path, "-journal"))?;
        let wal = disk::read(&disk::beside(&self.path, "-wal"))?;
        self.leave(&main, journal, wal)
    }

    /// Leaves what a power cut leaves, `back` versions behind the last commit.
    ///
    /// With a rollback journal and `back` 1 that is honest hardware: the last journal's unlink was not on the disk
    /// yet, so it comes back and SQLite rolls its transaction back. Where the open transaction was spilled, its own
    /// journal was flushed, and the directory with it: then nothing of what was committed is lost.
    /// More than 1, and any in WAL mode, needs a disk that lies about flushing.
    pub fn power_cut(self, back: u64) -> Result<()> {
        let journal_path = disk::beside(&self.path, "-journal");
        if back == 0 {
            return self.crash();
        }
        if self.journal == Journal::Wal {
            let main = disk::read_open(&self.raw)?;
            let wal = disk::read(&disk::beside(&self.path, "-wal"))?.context("no write-ahead log")?;
            let kept = disk::wal_without_last_commits(&wal, back).context("the log is too short")?;
            return self.leave(&main, None, Some(kept));
        }
        if back == 1 {
            if disk::is_hot(&journal_path)? {
                return self.crash();
            }
            ensure!(
                self.has_kept_journal,
                "no transaction was committed since the start"
            );
            let main = disk::read_open(&self.raw)?;
            let journal = disk::read(&self.kept_journal)?;
            return self.leave(&main, journal, None);
        }
        let wanted = self
            .version
            .checked_sub(back)
            .context("there were not so many versions")?;
        let state = self.states.iter().find(|(version, _)| *version == wanted);
        let main = state
            .context("that state was not kept: see keep_states")?
            .1
            .clone();
        self.leave(&main, None, None)
    }

    /// Closes the connection and puts the files back as given, the main one into the same inode.
    fn leave(self, main: &[u8], journal: Option<Vec<u8>>, wal: Option<Vec<u8>>) -> Result<()> {
        let Self {
            connection,
            raw,
            path,
            kept_journal,
            ..
        } = self;
        drop(connection);
        drop(raw);
        disk::write_in_place(&path, main)?;
        disk::put(&disk::beside(&path, "-journal"), journal)?;
        disk::put(&disk::beside(&path, "-wal"), wal)?;
        disk::remove(&disk::beside(&path, "-shm"))?;
        disk::remove(&kept_journal)
    }
}

/// What `vars` says; nothing where there is no such table or row.
pub fn version_of(connection: &Connection) -> Result<Option<u64>> {
    let table = "SELECT 1 FROM sqlite_master WHERE name = 'vars'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT intval FROM vars WHERE name = 'data_version'";
    let version: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(version.map(i64::cast_unsigned))
}

fn text(write: &[u8]) -> String {
    String::from_utf8_lossy(write).chars().take(300).collect()
}
