//! Whether two databases say the same: schema, every table, every row, every rowid.
//!
//! Files may differ (a VACUUM, another order of pages) while what lightningd reads from them is equal. A difference is
//! named by its place alone: values stay where they are (I11).

use super::SqliteError;
use rusqlite::{
    Connection, Row,
    types::{Value, ValueRef},
};
use std::fmt;

/// The first thing in which two databases differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// An object of the schema exists in one alone, or is defined otherwise.
    Schema {
        /// Its name.
        object: String,
    },
    /// A row exists in one alone, or has another value or type.
    Row {
        /// The table.
        table: String,
        /// The rowid in the left database, or the row's place from 1 in a table without rowids.
        row: i64,
        /// The first column that differs; `None` where the row exists in one database alone.
        column: Option<String>,
    },
    /// A number in the file's header, by its PRAGMA's name.
    Header(&'static str),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema { object } => write!(f, "the schema differs at {object}"),
            Self::Row {
                table,
                row,
                column: Some(column),
            } => {
                write!(f, "table {table} differs at row {row}, column {column}")
            }
            Self::Row {
                table,
                row,
                column: None,
            } => {
                write!(f, "table {table} has row {row} in one database alone")
            }
            Self::Header(name) => write!(f, "{name} differs"),
        }
    }
}

/// Compares the databases in one pass over each table, in memory that does not depend on their size.
/// `None`: they are equal.
pub fn difference(left: &Connection, right: &Connection) -> Result<Option<Difference>, SqliteError> {
    for name in ["encoding", "user_version", "application_id"] {
        let ask =
            |conn: &Connection| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, Value>(0));
        if ask(left)? != ask(right)? {
            return Ok(Some(Difference::Header(name)));
        }
    }
    let schema = "SELECT type || ' ' || name, tbl_name, sql FROM sqlite_schema ORDER BY type, name";
    if let Some(found) = walk(left, right, schema, 3)? {
        let object = match found.name {
            Name::Text(object) => object,
            _ => "an object without a name".to_owned(),
        };
        return Ok(Some(Difference::Schema { object }));
    }
    for table in tables(left)? {
        let Some(found) = walk(left, right, &table.query(), table.columns.len())? else {
            continue;
        };
        let row = match found.name {
            Name::Number(rowid) if table.has_rowid => rowid,
            _ => found.place,
        };
        let column = found.column.and_then(|at| table.columns.get(at).cloned());
        return Ok(Some(Difference::Row {
            table: table.name,
            row,
            column,
        }));
    }
    Ok(None)
}

/// A table as it is walked through: in the order of its rowids, or of its primary key where it has none.
struct Table {
    name: String,
    /// What is selected; the rowid, where there is one, stands first.
    columns: Vec<String>,
    order: Vec<String>,
    has_rowid: bool,
}

impl Table {
    fn query(&self) -> String {
        let list = |names: &[String]| {
            let quoted: Vec<_> = names.iter().map(|name| quote(name)).collect();
            quoted.join(", ")
        };
        format!(
            "SELECT {} FROM {} ORDER BY {}",
            list(&self.columns),
            quote(&self.name),
            list(&self.order)
        )
    }
}

fn tables(conn: &Connection) -> Result<Vec<Table>, SqliteError> {
    // The schema table holds page numbers; what matters in it was compared already.
    let mut list = conn.prepare(
        "SELECT name, wr FROM pragma_table_list \
         WHERE schema = 'main' AND type IN ('table', 'shadow') AND name <> 'sqlite_schema' ORDER BY name",
    )?;
    let named = list.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    named
        .map(|row| {
            row.map_err(SqliteError::from)
                .and_then(|(name, bare)| table(conn, name, bare))
        })
        .collect()
}

fn table(conn: &Connection, name: String, without_rowid: bool) -> Result<Table, SqliteError> {
    // Generated columns (hidden 2 and 3) follow from the others.
    let mut list =
        conn.prepare("SELECT name, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid")?;
    let described = list
        .query_map([&name], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut key: Vec<_> = described.iter().filter(|(_, place)| *place > 0).collect();
    key.sort_by_key(|(_, place)| *place);
    let mut order: Vec<_> = key.into_iter().map(|(column, _)| column.clone()).collect();
    let mut columns: Vec<_> = described.iter().map(|(column, _)| column.clone()).collect();
    // A column may bear one of the three names of the rowid; it then means the column.
    let free = ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|alias| !columns.iter().any(|column| column.eq_ignore_ascii_case(alias)));
    let rowid = free.filter(|_| !without_rowid);
    if let Some(rowid) = rowid {
        columns.insert(0, rowid.to_owned());
        order = vec![rowid.to_owned()];
    }
    Ok(Table {
        name,
        columns,
        order,
        has_rowid: rowid.is_some(),
    })
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What names a row: its first value, or its place where that is neither a number nor a text.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Number(i64),
    Text(String),
    Other,
}

/// Where two answers to one query part.
struct Parting {
    name: Name,
    /// The row's place, from 1.
    place: i64,
    /// The first column that differs; `None` where one answer ended or the rows are different ones.
    column: Option<usize>,
}

fn walk(
    left: &Connection,
    right: &Connection,
    query: &str,
    columns: usize,
) -> Result<Option<Parting>, SqliteError> {
    let (mut left, mut right) = (left.prepare(query)?, right.prepare(query)?);
    let (mut left, mut right) = (left.raw_query(), right.raw_query());
    for place in 1.. {
        let (name, column) = match (left.next()?, right.next()?) {
            (None, None) => break,
            (Some(a), Some(b)) => match differing(a, b, columns)? {
                None => continue,
                // Both are in the same order: the lower one is missing on the other side.
                Some(0) => (name(a)?.min(name(b)?), None),
                at => (name(a)?, at),
            },
            (Some(row), None) | (None, Some(row)) => (name(row)?, None),
        };
        return Ok(Some(Parting { name, place, column }));
    }
    Ok(None)
}

fn name(row: &Row<'_>) -> Result<Name, SqliteError> {
    Ok(match row.get_ref(0)? {
        ValueRef::Integer(number) => Name::Number(number),
        ValueRef::Text(text) => Name::Text(String::from_utf8_lossy(text).into_owned()),
        _ => Name::Other,
    })
}

fn differing(a: &Row<'_>, b: &Row<'_>, columns: usize) -> Result<Option<usize>, SqliteError> {
    for at in 0..columns {
        if a.get_ref(at)? != b.get_ref(at)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sql: &str) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE a (x INTEGER, y TEXT); INSERT INTO a VALUES (1, 'one'), (2, NULL);
             CREATE TABLE k (n TEXT PRIMARY KEY, rowid INT) WITHOUT ROWID; INSERT INTO k VALUES ('p', 1), ('q', 2);
             CREATE TABLE odd (\"ro\"\"w\" TEXT, rowid TEXT, oid TEXT); INSERT INTO odd VALUES ('a', 'b', 'c');",
        )
        .unwrap();
        conn.execute_batch(sql).unwrap();
        conn
    }

    fn found(sql: &str) -> Option<String> {
        let (left, right) = (database(""), database(sql));
        let found = difference(&left, &right).unwrap();
        assert_eq!(found.is_none(), difference(&right, &left).unwrap().is_none());
        found.map(|difference| difference.to_string())
    }

    #[test]
    fn databases_with_equal_content_are_equal_whatever_their_pages_are() {
        assert_eq!(
            found("INSERT INTO a VALUES (3, hex(zeroblob(9000))); DELETE FROM a WHERE x = 3; VACUUM"),
            None
        );
    }

    #[test]
    fn every_difference_is_found_and_named_by_place() {
        for (sql, named) in [
            (
                "UPDATE a SET y = 'eins' WHERE x = 1",
                "table a differs at row 1, column y",
            ),
            (
                "UPDATE a SET y = CAST('one' AS BLOB) WHERE x = 1",
                "table a differs at row 1, column y",
            ),
            (
                "UPDATE a SET x = 7 WHERE x = 2",
                "table a differs at row 2, column x",
            ),
            (
                "DELETE FROM a WHERE x = 2",
                "table a has row 2 in one database alone",
            ),
            (
                "UPDATE a SET rowid = 9 WHERE x = 2",
                "table a has row 2 in one database alone",
            ),
            (
                "UPDATE k SET rowid = 3 WHERE n = 'q'",
                "table k differs at row 2, column rowid",
            ),
            (
                "UPDATE odd SET rowid = 'z'",
                "table odd differs at row 1, column rowid",
            ),
            (
                "UPDATE odd SET _rowid_ = 5",
                "table odd has row 1 in one database alone",
            ),
            ("CREATE INDEX i ON a (x)", "the schema differs at index i"),
            ("ALTER TABLE a ADD COLUMN z", "the schema differs at table a"),
            ("PRAGMA user_version = 3", "user_version differs"),
        ] {
            assert_eq!(found(sql).as_deref(), Some(named), "{sql}");
        }
    }
}
