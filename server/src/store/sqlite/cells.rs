//! Between SQLite's values and ours, beyond what is alike in every database: lists, errors.

use crate::store::StoreError;
pub(super) use crate::store::cells::*;
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
    match code {
        // The low byte is the primary code.
        code if code & 0xff == FULL || code == NO_ROOM_FOR_SHM => Some(StoreError::Full),
        code if code == HANDED_OVER || BUSY.contains(&(code & 0xff)) => {
            Some(StoreError::Unavailable(error.to_string()))
        }
        _ => None,
    }
}

/// A statement to which values are being bound.
pub(super) type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// What stands behind `VALUES`: rows of so many values each.
pub(super) fn rows(rows: usize, values: usize) -> String {
    let row = format!("({})", vec!["?"; values].join(", "));
    vec![row.as_str(); rows].join(", ")
}

/// Binds NULL so many times.
pub(super) fn nulls(query: Query<'_>, values: usize) -> Query<'_> {
    (0..values).fold(query, |query, _| query.bind(None::<i64>))
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
