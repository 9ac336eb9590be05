//! Between SQLite's values and ours: 64-bit numbers without a sign, identifiers, errors.

use crate::store::StoreError;
use backstop_protocol::clock::UnixMillis;
use sqlx::{
    Row as _, Sqlite,
    sqlite::{SqliteArguments, SqliteRow},
};
use std::fmt::Write as _;

/// `SQLITE_BUSY` and `SQLITE_LOCKED`: somebody else writes.
const BUSY: [i32; 2] = [5, 6];
/// `SQLITE_FULL`.
const FULL: i32 = 13;
/// `SQLITE_IOERR_SHMSIZE`: no room for the index of the write-ahead log.
const NO_ROOM_FOR_SHM: i32 = 4874;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(cause) => cause.code().and_then(|code| code.parse::<i32>().ok()),
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
                return Self::Unavailable(error.to_string());
            }
            _ => None,
        };
        match code {
            // The low byte is the primary code.
            Some(code) if code & 0xff == FULL || code == NO_ROOM_FOR_SHM => Self::Full,
            Some(code) if BUSY.contains(&(code & 0xff)) => Self::Unavailable(error.to_string()),
            _ => Self::Failed(Box::new(error)),
        }
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

/// A number of ours as SQLite keeps it. What came over the network was bounded when it was parsed.
pub(super) fn int(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::corrupt("signed 64-bit number"))
}

/// A column that holds a number of ours.
pub(super) fn number(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| StoreError::corrupt(column))
}

/// A column that holds a time, or nothing.
pub(super) fn time(row: &SqliteRow, column: &'static str) -> Result<Option<UnixMillis>, StoreError> {
    row.try_get::<Option<i64>, _>(column)?
        .map(|value| u64::try_from(value).map(UnixMillis))
        .transpose()
        .map_err(|_| StoreError::corrupt(column))
}

/// A column that holds the bytes of an identifier, or nothing.
pub(super) fn bytes<const N: usize>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<[u8; N]>, StoreError> {
    row.try_get::<Option<&[u8]>, _>(column)?
        .map(<[u8; N]>::try_from)
        .transpose()
        .map_err(|_| StoreError::corrupt(column))
}

/// A column that must hold the bytes of an identifier.
pub(super) fn id<const N: usize>(row: &SqliteRow, column: &'static str) -> Result<[u8; N], StoreError> {
    bytes(row, column)?.ok_or_else(|| StoreError::corrupt(column))
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
