//! Why a batch could not be applied. Nothing here quotes a statement or a value (I11).

use rusqlite::ffi;
use std::io;

/// What `SQLite` said, as a code: its messages may quote statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} (SQLite code {code})", ffi::code_to_str(*code))]
pub struct SqliteError {
    /// The extended result code.
    pub code: i32,
}

impl SqliteError {
    /// Whether a statement failed for what it says and what the database holds: every error but those of the machine.
    #[must_use]
    pub fn blames_statement(self) -> bool {
        matches!(
            self.code & 0xff,
            ffi::SQLITE_ERROR
                | ffi::SQLITE_CONSTRAINT
                | ffi::SQLITE_MISMATCH
                | ffi::SQLITE_RANGE
                | ffi::SQLITE_TOOBIG
        )
    }

    /// Whether there was no room for the file: the disk is full, or a limit on files was hit.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.code & 0xff == ffi::SQLITE_FULL || self.code == ffi::SQLITE_IOERR_WRITE
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        let code = match error.sqlite_error() {
            Some(error) => error.extended_code,
            None => match error {
                rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..) => {
                    ffi::SQLITE_MISMATCH
                }
                _ => ffi::SQLITE_ERROR,
            },
        };
        Self { code }
    }
}

/// Why a batch could not be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The database itself could not be opened, asked or closed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// A statement failed; the batch was rolled back.
    #[error("statement {number} of the batch of data_version {data_version} failed: {reason}")]
    Statement {
        /// The batch.
        data_version: u64,
        /// The statement's place in it, from 1.
        number: usize,
        /// Why.
        reason: Box<ReplayError>,
    },
    /// A statement that lightningd never reports; executing it would undo what replay promises.
    #[error("it has {0}, which no batch of lightningd has")]
    Forbidden(&'static str),
    /// The batch does not continue the database: its version update changed no row, or it left another version.
    #[error("the batch of data_version {batch} does not follow a database at {}", version(*.database))]
    Version {
        /// The batch's version.
        batch: u64,
        /// The database's version before the batch; `None` where it has none.
        database: Option<u64>,
    },
    /// The file could not be flushed or cleaned up.
    #[error("the database file could not be flushed: {0}")]
    Io(#[from] io::Error),
}

impl From<rusqlite::Error> for ReplayError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.into())
    }
}

impl ReplayError {
    /// Whether there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.is_full(),
            Self::Statement { reason, .. } => reason.is_full(),
            Self::Io(error) => is_full(error),
            _ => false,
        }
    }

    /// Whether the batch does not fit the database, as opposed to a database that cannot be written or read.
    #[must_use]
    pub fn blames_batch(&self) -> bool {
        match self {
            Self::Forbidden(_) | Self::Version { .. } => true,
            Self::Statement { reason, .. } => match **reason {
                Self::Sqlite(error) => error.blames_statement(),
                _ => reason.blames_batch(),
            },
            Self::Sqlite(_) | Self::Io(_) => false,
        }
    }
}

/// Whether an I/O error means that there is no room: full disk, quota, or a limit on the size of files.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn version(version: Option<u64>) -> String {
    version.map_or_else(
        || "no data_version".to_owned(),
        |version| format!("data_version {version}"),
    )
}
