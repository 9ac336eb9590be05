//! How connections to the file are set up: those of sqlx, and the one that appends.

use super::{BUSY_WAIT, PAGE};
use rusqlite::{Connection, OpenFlags};
use sqlx::{
    ConnectOptions as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::path::{Path, PathBuf};

/// Pages that a connection may keep in memory, in KiB, as SQLite writes it: ids are random, and so are the pages that chunks
/// and their indexes touch.
const CACHE: &str = "-16384";
/// Pages of SQLite's own log after which a commit moves them into the file and waits for two flushes more: where that was not
/// done beside the commits (`checkpoints`).
const WAL_PAGES: &str = "16384";
/// To how many bytes the log of SQLite's own is cut back once it was longer.
const WAL_KEPT: &str = "67108864";

/// What every connection that may write is set up with.
#[derive(Clone)]
pub(super) struct Settings {
    path: PathBuf,
    /// Most pages that the file may have.
    pages: Option<u64>,
}

impl Settings {
    /// For the file at `path`, which may grow to `limit` bytes.
    pub(super) fn new(path: &Path, limit: Option<u64>) -> Self {
        Self {
            path: path.to_owned(),
            pages: limit.map(|limit| (limit / u64::from(PAGE)).max(1)),
        }
    }

    fn pragmas(&self) -> impl Iterator<Item = (&'static str, String)> {
        let all = [
            ("journal_size_limit", WAL_KEPT),
            ("wal_autocheckpoint", WAL_PAGES),
            // What a statement would have to undo is a few pages for each append; a file for them would cost every group.
            ("temp_store", "memory"),
            ("cache_size", CACHE),
        ];
        let limit = self.pages.map(|pages| ("max_page_count", pages.to_string()));
        all.into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .chain(limit)
    }

    /// For a connection of sqlx, which makes the file where it is missing.
    pub(super) fn options(&self) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .page_size(PAGE)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_WAIT)
            .disable_statement_logging();
        self.pragmas()
            .fold(options, |options, (name, value)| options.pragma(name, value))
    }

    /// The connection that appends, to a file that is there and in WAL mode.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        // What an acknowledgement rests on (I1).
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        for (name, value) in self.pragmas() {
            connection.pragma_update(None, name, value)?;
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{AssertSqlSafe, Row as _};

    #[tokio::test]
    async fn both_ways_to_the_file_are_set_up_alike_and_flush_what_they_commit() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(&dir.path().join("store"), Some(1 << 30));
        let mut theirs = settings.options().connect().await.unwrap();
        let ours = settings.connect().unwrap();
        for name in [
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "busy_timeout",
            "journal_size_limit",
            "wal_autocheckpoint",
            "temp_store",
            "cache_size",
            "max_page_count",
        ] {
            let pragma = AssertSqlSafe(format!("PRAGMA {name}"));
            let row = sqlx::query(pragma).fetch_one(&mut theirs).await.unwrap();
            let theirs = row
                .try_get::<i64, _>(0)
                .map_or_else(|_| row.get::<String, _>(0), |number| number.to_string());
            let ours: rusqlite::types::Value = ours.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            let ours = match ours {
                rusqlite::types::Value::Integer(number) => number.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(ours, theirs, "{name}");
            let durable = match name {
                "journal_mode" => Some("wal"),
                "synchronous" => Some("2"),
                _ => None,
            };
            assert!(durable.is_none_or(|durable| ours == durable), "{name}: {ours}");
        }
    }
}
