//! Logical comparison of two databases: what a dump would show, and the rowids, which CLN exposes.

use crate::disk;
use anyhow::Result;
use rusqlite::{Connection, types::ValueRef};
use std::{fmt, path::Path};

/// The first thing that differs.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table, or `schema`.
    pub place: String,
    /// What the first database has there.
    pub left: Option<String>,
    /// What the second one has there.
    pub right: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(
            f,
            "{}: {} against {}",
            self.place,
            side(&self.left),
            side(&self.right)
        )
    }
}

/// What two equal databases hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Equal {
    /// Tables, those without rows included.
    pub tables: usize,
    /// Rows of all tables.
    pub rows: u64,
}

/// Compares two closed databases, as SQLite would recover them; neither file is touched.
pub fn compare(left: &Path, right: &Path) -> Result<Result<Equal, Difference>> {
    let (left_copy, right_copy) = (Copy::open(left)?, Copy::open(right)?);
    compare_open(&left_copy.connection, &right_copy.connection)
}

/// Fails with the first difference of two closed databases.
pub fn assert_equal(left: &Path, right: &Path) -> Result<Equal> {
    compare(left, right)?.map_err(|difference| {
        anyhow::anyhow!("{} and {} differ: {difference}", left.display(), right.display())
    })
}

/// A private copy of a closed database.
pub struct Copy {
    /// Open on the copy; a hot journal has been rolled back.
    pub connection: Connection,
    _directory: tempfile::TempDir,
}

impl Copy {
    /// Copies the database with `-journal` and `-wal`.
    pub fn open(path: &Path) -> Result<Self> {
        anyhow::ensure!(path.exists(), "there is no {}", path.display());
        let directory = tempfile::tempdir()?;
        let connection = Connection::open(disk::copy_database(path, directory.path())?)?;
        Ok(Self {
            connection,
            _directory: directory,
        })
    }
}

/// Compares two open databases: the schema's texts, then every table row by row in the order of rowids.
pub fn compare_open(left: &Connection, right: &Connection) -> Result<Result<Equal, Difference>> {
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name";
    if let Err(difference) = compare_rows("schema", schema, left, right)? {
        return Ok(Err(difference));
    }
    let mut names = left.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")?;
    let names: Vec<String> = names
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut equal = Equal {
        tables: names.len(),
        rows: 0,
    };
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let with_rowid = format!("SELECT rowid, * FROM \"{quoted}\" ORDER BY rowid");
        let sql = if left.prepare(&with_rowid).is_ok() {
            with_rowid
        } else {
            format!("SELECT * FROM \"{quoted}\"")
        };
        match compare_rows(&name, &sql, left, right)? {
            Ok(rows) => equal.rows += rows,
            Err(difference) => return Ok(Err(difference)),
        }
    }
    Ok(Ok(equal))
}

/// Runs one query on both and compares value by value, types included; how many rows there were.
fn compare_rows(
    place: &str,
    sql: &str,
    left: &Connection,
    right: &Connection,
) -> Result<Result<u64, Difference>> {
    let (mut left, mut right) = (left.prepare(sql)?, right.prepare(sql)?);
    let columns = left.column_count();
    let (mut left, mut right) = (left.query([])?, right.query([])?);
    let mut count = 0;
    loop {
        let (a, b) = (left.next()?, right.next()?);
        let (Some(a), Some(b)) = (a, b) else {
            let shown = |row: Option<&rusqlite::Row<'_>>| row.map(|row| show(row, columns)).transpose();
            let (left, right) = (shown(a)?, shown(b)?);
            let same = left.is_none() && right.is_none();
            return Ok(if same {
                Ok(count)
            } else {
                Err(Difference {
                    place: place.to_owned(),
                    left,
                    right,
                })
            });
        };
        for column in 0..columns {
            if a.get_ref(column)? != b.get_ref(column)? {
                let (left, right) = (Some(show(a, columns)?), Some(show(b, columns)?));
                return Ok(Err(Difference {
                    place: place.to_owned(),
                    left,
                    right,
                }));
            }
        }
        count += 1;
    }
}

/// A row as text, long values cut.
fn show(row: &rusqlite::Row<'_>, columns: usize) -> Result<String> {
    let mut parts = Vec::with_capacity(columns);
    for column in 0..columns {
        let part = match row.get_ref(column)? {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(value) => value.to_string(),
            ValueRef::Real(value) => value.to_string(),
            ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
            ValueRef::Blob(blob) => format!("x'{}'", hex::encode(blob)),
        };
        parts.push(part.chars().take(80).collect::<String>());
    }
    Ok(format!("({})", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sql: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        connection
    }

    #[test]
    fn equal_content_is_equal_and_every_kind_of_difference_is_named() {
        let base = "CREATE TABLE t (a TEXT, b BLOB); INSERT INTO t VALUES ('x', x'00'), ('y', NULL);";
        let same = compare_open(&database(base), &database(base)).unwrap();
        assert_eq!(same, Ok(Equal { tables: 1, rows: 2 }));
        for (change, place) in [
            ("UPDATE t SET a = 'z' WHERE a = 'y'", "t"),
            ("UPDATE t SET b = '' WHERE a = 'y'", "t"),
            ("DELETE FROM t WHERE a = 'y'", "t"),
            ("INSERT INTO t VALUES ('', NULL)", "t"),
            ("UPDATE t SET rowid = 9 WHERE a = 'y'", "t"),
            ("CREATE INDEX i ON t (a)", "schema"),
        ] {
            let other = database(&format!("{base}{change}"));
            let difference = compare_open(&database(base), &other).unwrap().unwrap_err();
            assert_eq!(difference.place, place, "{change}");
        }
    }

    #[test]
    fn a_blob_is_not_a_text_of_the_same_bytes() {
        let difference = compare_open(
            &database("CREATE TABLE t (a); INSERT INTO t VALUES ('x')"),
            &database("CREATE TABLE t (a); INSERT INTO t VALUES (x'78')"),
        );
        assert!(difference.unwrap().is_err());
    }
}
