//! What a node's SQLite database says about itself, read without changing it.

use backstop_protocol::id::NodeId;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ffi};
use std::path::Path;

/// Facts about a database as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether there is anything in it at all; a file of length zero is a database without tables.
    pub has_tables: bool,
    /// CLN's own counter of batches; absent before CLN made its table `vars`.
    pub data_version: Option<u64>,
    /// Whose database it is; absent until the node's first start has got that far.
    pub node: Option<NodeId>,
}

/// Why a database tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A transaction was cut off (a hot journal, or a WAL to be recovered): whoever opens the database for writing
    /// next rolls it back, and only then it says what lightningd will find.
    #[error("the database has an unfinished transaction, which the next opening for writing rolls back")]
    Unfinished,
    /// It is not SQLite, damaged, locked for too long, or not readable for this user.
    #[error("the database cannot be read: {0}")]
    Sqlite(rusqlite::Error),
    /// A value that CLN does not write.
    #[error("the database holds a {0} that CLN does not write")]
    Value(&'static str),
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Reads the facts of the database at `path`; `None` where there is no file.
///
/// Safe beside a running lightningd, which then waits some microseconds at its next commit. But a process must not
/// call this while it has the same file open in another way than through SQLite: closing either one would drop the
/// other's locks (POSIX), and SQLite would no longer notice lightningd.
pub fn facts(path: &Path) -> Result<Option<Facts>, DatabaseError> {
    // Where it cannot be told, opening it gives the reason.
    if let Ok(false) = path.try_exists() {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    facts_of(&connection).map(Some)
}

/// Reads the facts through a connection that is open already.
pub fn facts_of(connection: &Connection) -> Result<Facts, DatabaseError> {
    // One transaction, so that both values are of the same moment.
    let transaction = connection.unchecked_transaction()?;
    let has_table = |name: &str| {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND (?1 = '' OR name = ?1))";
        transaction
            .query_row(sql, [name], |row| row.get(0))
            .map_err(unfinished)
    };
    let has_tables = has_table("")?;
    if !has_table("vars")? {
        return Ok(Facts {
            has_tables,
            data_version: None,
            node: None,
        });
    }
    let data_version = transaction
        .query_row("SELECT intval FROM vars WHERE name = 'data_version'", [], |row| {
            row.get::<_, i64>(0)
        })
        .optional()?;
    let node = transaction
        .query_row("SELECT blobval FROM vars WHERE name = 'node_id'", [], |row| {
            row.get::<_, Vec<u8>>(0)
        })
        .optional()?;
    Ok(Facts {
        has_tables,
        data_version: data_version
            .map(|version| u64::try_from(version).map_err(|_| DatabaseError::Value("data_version")))
            .transpose()?,
        node: node
            .map(|node| NodeId::from_slice(&node).map_err(|_| DatabaseError::Value("node_id")))
            .transpose()?,
    })
}

fn unfinished(error: rusqlite::Error) -> DatabaseError {
    match error.sqlite_error() {
        Some(ffi::Error {
            code: ErrorCode::ReadOnly,
            extended_code,
        }) if matches!(
            *extended_code,
            ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY | ffi::SQLITE_READONLY_CANTINIT
        ) =>
        {
            DatabaseError::Unfinished
        }
        _ => DatabaseError::Sqlite(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// The statements by which CLN makes and fills `vars`.
    fn node_database(dir: &Path) -> (PathBuf, Connection) {
        let path = dir.join("lightningd.sqlite3");
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch(
                "CREATE TABLE vars (name VARCHAR(32), val VARCHAR(255), intval INTEGER, blobval BLOB, PRIMARY KEY (name));
                 INSERT INTO vars (name, intval) VALUES ('data_version', 41);
                 UPDATE vars SET intval = 42 WHERE name = 'data_version';",
            )
            .unwrap();
        (path, database)
    }

    fn set_node(database: &Connection, node: &[u8]) {
        let sql = "INSERT INTO vars (name, blobval) VALUES ('node_id', ?1)";
        database.execute(sql, [node]).unwrap();
    }

    #[test]
    fn a_nodes_database_tells_its_version_and_its_node() {
        let dir = tempfile::tempdir().unwrap();
        let (path, database) = node_database(dir.path());
        let without = Facts {
            has_tables: true,
            data_version: Some(42),
            node: None,
        };
        assert_eq!(facts(&path).unwrap(), Some(without));
        set_node(&database, &[2; 33]);
        assert_eq!(
            facts(&path).unwrap(),
            Some(Facts {
                node: Some(NodeId([2; 33])),
                ..without
            })
        );
        assert_eq!(facts_of(&database).unwrap().data_version, Some(42));
    }

    #[test]
    fn no_file_an_empty_one_and_one_without_cln_in_it_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        assert_eq!(facts(&path).unwrap(), None);
        std::fs::write(&path, b"").unwrap();
        let empty = Facts {
            has_tables: false,
            data_version: None,
            node: None,
        };
        assert_eq!(facts(&path).unwrap(), Some(empty));
        Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE x (y)")
            .unwrap();
        assert_eq!(
            facts(&path).unwrap(),
            Some(Facts {
                has_tables: true,
                ..empty
            })
        );
    }

    #[test]
    fn what_is_no_database_of_cln_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(
            &path,
            "not a database at all, but long enough to look at".repeat(9),
        )
        .unwrap();
        assert!(matches!(facts(&path), Err(DatabaseError::Sqlite(_))));
        let (path, database) = node_database(dir.path());
        set_node(&database, &[2; 32]);
        assert!(matches!(facts(&path), Err(DatabaseError::Value("node_id"))));
        database
            .execute_batch("DELETE FROM vars; INSERT INTO vars (name, intval) VALUES ('data_version', -1)")
            .unwrap();
        assert!(matches!(facts(&path), Err(DatabaseError::Value("data_version"))));
    }

    #[test]
    fn a_transaction_that_was_cut_off_is_noticed_and_nothing_is_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path, database) = node_database(dir.path());
        // A cache too small for the transaction makes SQLite write to the file before the commit.
        database
            .execute_batch("CREATE TABLE t (x); PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN")
            .unwrap();
        for _ in 0..100 {
            database
                .execute("INSERT INTO t VALUES (zeroblob(3000))", [])
                .unwrap();
        }
        database
            .execute("UPDATE vars SET intval = 43 WHERE name = 'data_version'", [])
            .unwrap();
        let after_the_cut = dir.path().join("cut.sqlite3");
        std::fs::copy(
            dir.path().join("lightningd.sqlite3-journal"),
            dir.path().join("cut.sqlite3-journal"),
        )
        .unwrap();
        std::fs::copy(&path, &after_the_cut).unwrap();
        let bytes = std::fs::read(&after_the_cut).unwrap();
        assert!(matches!(facts(&after_the_cut), Err(DatabaseError::Unfinished)));
        assert_eq!(std::fs::read(&after_the_cut).unwrap(), bytes);

        let opened = Connection::open(&after_the_cut).unwrap();
        assert_eq!(facts_of(&opened).unwrap().data_version, Some(42));
    }
}
