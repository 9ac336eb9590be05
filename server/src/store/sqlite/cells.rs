//! Between SQLite's values and ours, beyond what is alike in every database: lists, errors.

use crate::store::StoreError;
pub(super) use crate::store::cells::*;
use rusqlite::{
    ToSql,
    types::{ToSqlOutput, ValueRef},
};
use sqlx::{
    Sqlite,
    error::DatabaseError as _,
    sqlite::{SqliteArguments, SqliteError},
};
use std::fmt::Write as _;

/// `SQLITE_BUSY` and `SQLITE_LOCKED`: somebody else writes.
const BUSY: [i32; 2] = [5, 6];
/// `SQLITE_FULL`.
const FULL: i32 = 13;
/// `SQLITE_IOERR_SHMSIZE`: no room for the index of the write-ahead log.
const NO_ROOM_FOR_SHM: i32 = 4874;

/// `SQLITE_CONSTRAINT_TRIGGER`: the store is handed over to another.
const HANDED_OVER: i32 = 1811;

/// What an error of SQLite means, where it is one.
pub(in crate::store) fn trouble(error: &sqlx::Error) -> Option<StoreError> {
    let sqlx::Error::Database(cause) = error else {
        return None;
    };
    let code = cause
        .try_downcast_ref::<SqliteError>()?
        .code()?
        .parse::<i32>()
        .ok()?;
    means(code, error)
}

/// What an extended error code of SQLite means, where more than that something failed.
fn means(code: i32, error: &impl ToString) -> Option<StoreError> {
    match code {
        // The low byte is the primary code.
        code if code & 0xff == FULL || code == NO_ROOM_FOR_SHM => Some(StoreError::Full),
        code if code == HANDED_OVER || BUSY.contains(&(code & 0xff)) => {
            Some(StoreError::Unavailable(error.to_string()))
        }
        _ => None,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        error
            .sqlite_error()
            .and_then(|cause| means(cause.extended_code, &error))
            .unwrap_or_else(|| Self::Failed(Box::new(error)))
    }
}

/// A statement to which values are being bound.
pub(super) type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// A value to be bound, for either way to the database.
pub(super) enum Cell<'a> {
    Int(Option<i64>),
    Blob(Option<&'a [u8]>),
}

impl Cell<'_> {
    /// Binds it as the next value.
    pub(super) fn bind(self, query: Query<'_>) -> Query<'_> {
        match self {
            Self::Int(value) => query.bind(value),
            Self::Blob(value) => query.bind(value.map(<[u8]>::to_vec)),
        }
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(value)) => ValueRef::Integer(*value),
            Self::Blob(Some(value)) => ValueRef::Blob(value),
            Self::Int(None) | Self::Blob(None) => ValueRef::Null,
        }))
    }
}

impl Cells for rusqlite::Row<'_> {
    fn integer(&self, column: &'static str) -> Result<Option<i64>, sqlx::Error> {
        self.get(column).map_err(decode)
    }

    fn blob(&self, column: &'static str) -> Result<Option<&[u8]>, sqlx::Error> {
        let value = self.get_ref(column).map_err(decode)?;
        value.as_blob_or_null().map_err(decode)
    }

    fn text(&self, column: &'static str) -> Result<&str, sqlx::Error> {
        let value = self.get_ref(column).map_err(decode)?;
        value.as_str().map_err(decode)
    }

    fn truth(&self, column: &'static str) -> Result<bool, sqlx::Error> {
        self.get(column).map_err(decode)
    }
}

fn decode(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// A JSON array of hex, which SQLite takes apart again with `json_each` and `unhex`: one statement for any number.
pub(super) fn hex_array<'a>(ids: impl Iterator<Item = &'a [u8; 32]>) -> String {
    let mut json = String::from("[");
    for (at, id) in ids.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(json, "{comma}\"{}\"", hex::encode(id));
    }
    json.push(']');
    json
}
