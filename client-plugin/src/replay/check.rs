//! What must be true of a database before anybody relies on it (I9).

use super::SqliteError;
use backstop_protocol::id::NodeId;
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeSet;

/// A row that refers to one that is not there. Named by place, never by content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Orphan {
    /// The table of the row.
    pub table: String,
    /// The row; `None` in a table without rowids.
    pub rowid: Option<i64>,
    /// The table it refers to.
    pub parent: String,
    /// Which of the table's foreign keys.
    pub key: i64,
}

/// CLN's counter; `None` where the table, the row or its value does not exist yet.
pub fn data_version(conn: &Connection) -> Result<Option<u64>, SqliteError> {
    if !has_vars(conn)? {
        return Ok(None);
    }
    let found: Option<Option<i64>> = conn
        .query_row("SELECT intval FROM vars WHERE name = 'data_version'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(found.flatten().and_then(|version| u64::try_from(version).ok()))
}

/// The node that the database belongs to; `None` until lightningd's first start has come so far as to write it.
pub fn node_id(conn: &Connection) -> Result<Option<NodeId>, SqliteError> {
    if !has_vars(conn)? {
        return Ok(None);
    }
    let found: Option<Option<Vec<u8>>> = conn
        .query_row("SELECT blobval FROM vars WHERE name = 'node_id'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(found.flatten().and_then(|bytes| NodeId::from_slice(&bytes).ok()))
}

/// Reads every page and every index; `None`: all is well, else the first complaint.
pub fn integrity(conn: &Connection) -> Result<Option<String>, SqliteError> {
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

/// All rows whose parent is missing.
pub fn orphans(conn: &Connection) -> Result<BTreeSet<Orphan>, SqliteError> {
    let mut statement = conn.prepare("PRAGMA foreign_key_check")?;
    let rows = statement.query_map([], |row| {
        Ok(Orphan {
            table: row.get(0)?,
            rowid: row.get(1)?,
            parent: row.get(2)?,
            key: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// `vars.intval` and `vars.blobval` came with a migration: before it there is nothing to ask.
fn has_vars(conn: &Connection) -> Result<bool, SqliteError> {
    let columns: i64 = conn.query_row(
        "SELECT count(*) FROM pragma_table_info('vars') WHERE name IN ('name', 'intval', 'blobval')",
        [],
        |row| row.get(0),
    )?;
    Ok(columns == 3)
}
