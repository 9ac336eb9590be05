//! The live database, copied while lightningd waits for an answer (cln.md 3.2).
//!
//! Inside the hook the files are quiescent: lightningd is their only writer and stands still. Database, `-journal` and
//! `-wal` copied under matching names are what a crash would leave, and `SQLite` recovers them to the state before the
//! batch in question. The main file alone may be wrong and still pass `integrity_check`.
//!
//! The original is read as plain files, never through `SQLite`: closing any descriptor of it drops the POSIX locks that
//! this process has on it, so a connection of ours would be a trap.

use crate::replay::{self, ReplayError, SqliteError, check, companions};
use backstop_protocol::id::NodeId;
use rusqlite::{Connection, OpenFlags};
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Name of the copy in the work directory.
const NAME: &str = "copy.sqlite3";

/// What the copy must turn out to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The version before the batch that waits; the batch's own where it holds PRAGMAs alone.
    pub data_version: u64,
    /// The node. A database that does not name its node yet is taken: lightningd's first start writes it last.
    pub node: NodeId,
}

/// What was found at the place of the live database.
#[derive(Debug, PartialEq, Eq)]
pub enum Copied {
    /// Nothing was ever committed: the log starts from nothing and needs no snapshot.
    BrandNew,
    /// The state before the batch, in one file that is complete by itself. The journal mode stays what the file says:
    /// a write-ahead log was folded in, a rollback journal rolled back, and neither is left beside it.
    /// The file is the caller's; it was not flushed.
    Copy(PathBuf),
}

/// Why there is no usable copy. The work directory holds nothing of it then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The files could not be read or written.
    #[error("the live database could not be copied: {0}")]
    Io(#[from] io::Error),
    /// Somebody wrote meanwhile, which lightningd does not do inside the hook.
    #[error("{0} changed while it was copied: another program writes to the node's database")]
    Moving(PathBuf),
    /// The copy could not be opened or recovered.
    #[error("the copy of the live database could not be opened: {0}")]
    Replay(#[from] ReplayError),
    /// The database is damaged.
    #[error("the live database is damaged: {0}")]
    Damaged(String),
    /// The copy is at another version than lightningd's batch says.
    #[error(
        "the copy of the live database is at data_version {found:?}, not at {expected} as lightningd says"
    )]
    Version {
        /// What lightningd's batch implies.
        expected: u64,
        /// What the copy says.
        found: Option<u64>,
    },
    /// The database belongs to another node.
    #[error("the live database belongs to node {found}, not to {expected}")]
    Node {
        /// The node that is backed up.
        expected: NodeId,
        /// The node in the database.
        found: NodeId,
    },
}

impl From<SqliteError> for CopyError {
    fn from(error: SqliteError) -> Self {
        Self::Replay(error.into())
    }
}

impl From<rusqlite::Error> for CopyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Replay(error.into())
    }
}

/// Copies the live database into `work`, a directory of the plugin's own that is made where it is missing, and checks
/// the copy.
/// To be called inside the hook alone. Where the file system can share blocks, the copy costs next to nothing.
pub fn copy(live: &Path, work: &Path, expected: Expected) -> Result<Copied, CopyError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(work)?;
    let to = work.join(NAME);
    remove(&to)?;
    let copied = copy_files(live, &to).and_then(|()| recover(&to, expected));
    if !matches!(copied, Ok(Copied::Copy(_))) {
        // The first error is the one to report; what stays behind is removed by the next call.
        let _ = remove(&to);
    }
    copied
}

/// Removes the copy, or what a crash left of one.
pub fn remove(copy: &Path) -> io::Result<()> {
    for path in companions(copy).iter().map(PathBuf::as_path).chain([copy]) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn copy_files(live: &Path, to: &Path) -> Result<(), CopyError> {
    // SQLite follows links, and keeps the journal beside the file itself.
    let live = fs::canonicalize(live)?;
    let pairs = companions(&live).into_iter().zip(companions(to)).take(2);
    let pairs: Vec<_> = [(live, to.to_owned())].into_iter().chain(pairs).collect();
    let before: Vec<_> = pairs
        .iter()
        .map(|(from, _)| stamp(from))
        .collect::<Result<_, _>>()?;
    for ((from, to), stamp) in pairs.iter().zip(&before) {
        if stamp.is_some() {
            // The kernel shares blocks here where it can (copy_file_range).
            fs::copy(from, to)?;
        }
    }
    for ((from, _), before) in pairs.iter().zip(&before) {
        if stamp(from)? != *before {
            return Err(CopyError::Moving(from.clone()));
        }
    }
    Ok(())
}

/// Length and time of the last change; `None` where there is no file.
fn stamp(path: &Path) -> io::Result<Option<(u64, SystemTime)>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some((found.len(), found.modified()?))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn recover(copy: &Path, expected: Expected) -> Result<Copied, CopyError> {
    if fs::metadata(copy)?.len() == 0 {
        return Ok(Copied::BrandNew);
    }
    let conn = Connection::open_with_flags(
        copy,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Before anything is read: a write-ahead log then needs no shared memory beside the file.
    conn.execute_batch("PRAGMA locking_mode=EXCLUSIVE; PRAGMA temp_store=MEMORY;")?;
    // The first reading recovers. A first transaction that spilled leaves nothing once it is rolled back.
    let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages == 0 {
        return Ok(Copied::BrandNew);
    }
    if let Some(complaint) = check::integrity(&conn)? {
        return Err(CopyError::Damaged(complaint));
    }
    let found = check::data_version(&conn)?;
    if found != Some(expected.data_version) {
        return Err(CopyError::Version {
            expected: expected.data_version,
            found,
        });
    }
    match check::node_id(&conn)? {
        Some(found) if found != expected.node => {
            return Err(CopyError::Node {
                expected: expected.node,
                found,
            });
        }
        _ => {}
    }
    replay::settle(conn, copy)?;
    Ok(Copied::Copy(copy.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures,
        replay::{Durability, Replay, compare},
    };

    const NODE: NodeId = NodeId([2; 33]);

    /// A database as lightningd has it open, at version 7.
    struct Live {
        dir: tempfile::TempDir,
        conn: Connection,
    }

    impl Live {
        fn new(mode: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let conn = Connection::open(dir.path().join("db")).unwrap();
            conn.query_row(&format!("PRAGMA journal_mode={mode}"), [], |_| Ok(()))
                .unwrap();
            conn.execute_batch(&format!(
                "CREATE TABLE vars (name TEXT PRIMARY KEY, val TEXT, intval INTEGER, blobval BLOB);
                 INSERT INTO vars (name, intval) VALUES ('data_version', 7);
                 INSERT INTO vars (name, blobval) VALUES ('node_id', x'{NODE}');
                 CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB);
                 WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 900)
                 INSERT INTO t SELECT i, zeroblob(4000) FROM n;"
            ))
            .unwrap();
            Self { dir, conn }
        }

        /// Version 8, not committed; with a cache so small that half of it is in the file already, or not.
        fn begin(&self, spill: bool) {
            self.conn
                .execute_batch(&format!("PRAGMA cache_size={}", if spill { 10 } else { 20_000 }))
                .unwrap();
            self.conn
                .execute_batch("BEGIN; UPDATE vars SET intval = 8 WHERE name = 'data_version'; UPDATE t SET v = randomblob(4000);")
                .unwrap();
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("db")
        }

        fn copy(&self, data_version: u64) -> Result<Copied, CopyError> {
            copy(
                &self.path(),
                &self.dir.path().join("work"),
                Expected {
                    data_version,
                    node: NODE,
                },
            )
        }

        fn left_in_work(&self) -> usize {
            fs::read_dir(self.dir.path().join("work")).unwrap().count()
        }
    }

    #[test]
    fn the_copy_is_the_state_before_the_batch_whatever_journal_mode_and_however_much_was_spilled() {
        for mode in ["delete", "truncate", "persist", "wal"] {
            for spill in [false, true] {
                let live = Live::new(mode);
                live.begin(spill);
                let Copied::Copy(copied) = live.copy(7).unwrap() else {
                    panic!("not new")
                };
                assert_eq!(live.left_in_work(), 1, "{mode}: one file is the whole of it");
                live.conn.execute_batch("ROLLBACK").unwrap();
                let conn = Connection::open(&copied).unwrap();
                assert_eq!(
                    compare::difference(&live.conn, &conn).unwrap(),
                    None,
                    "{mode} {spill}"
                );
                let found: String = conn
                    .query_row("PRAGMA journal_mode", [], |row| row.get(0))
                    .unwrap();
                assert_eq!(found == "wal", mode == "wal", "the mode in the file stays");
            }
        }
    }

    #[test]
    fn a_main_file_alone_would_have_been_wrong_and_called_sound() {
        let live = Live::new("delete");
        live.begin(true);
        let alone = live.dir.path().join("alone");
        fs::copy(live.path(), &alone).unwrap();
        live.conn.execute_batch("ROLLBACK").unwrap();
        let conn = Connection::open(alone).unwrap();
        assert!(compare::difference(&live.conn, &conn).map_or(true, |found| found.is_some()));
    }

    #[test]
    fn between_batches_the_copy_is_the_state_as_it_is() {
        let live = Live::new("delete");
        assert!(matches!(live.copy(7), Ok(Copied::Copy(_))));
    }

    #[test]
    fn a_database_without_any_commit_is_brand_new() {
        for spill in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let live = dir.path().join("db");
            let conn = Connection::open(&live).unwrap();
            conn.execute_batch(&format!("PRAGMA cache_size={}", if spill { 5 } else { 2000 }))
                .unwrap();
            conn.execute_batch("BEGIN; CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(300000));")
                .unwrap();
            let expected = Expected {
                data_version: 0,
                node: NODE,
            };
            let work = dir.path().join("work");
            assert_eq!(fs::metadata(&live).unwrap().len() > 0, spill);
            assert_eq!(copy(&live, &work, expected).unwrap(), Copied::BrandNew);
            assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_copy_that_is_not_what_was_expected_is_refused_and_removed() {
        let live = Live::new("delete");
        assert!(matches!(
            live.copy(6),
            Err(CopyError::Version {
                expected: 6,
                found: Some(7)
            })
        ));
        assert_eq!(live.left_in_work(), 0);
        live.conn
            .execute_batch("UPDATE vars SET blobval = zeroblob(33) WHERE name = 'node_id'")
            .unwrap();
        assert!(matches!(live.copy(7), Err(CopyError::Node { .. })));
        live.conn
            .execute_batch("DELETE FROM vars WHERE name = 'node_id'")
            .unwrap();
        assert!(matches!(live.copy(7), Ok(Copied::Copy(_))));
        let mut bytes = fs::read(live.path()).unwrap();
        bytes[5000..9000].fill(0x5a);
        fs::write(live.path(), bytes).unwrap();
        assert!(live.copy(7).is_err());
        fs::write(live.path(), b"not a database at all").unwrap();
        assert!(live.copy(7).is_err());
        fs::remove_file(live.path()).unwrap();
        assert!(matches!(live.copy(7), Err(CopyError::Io(_))));
        assert_eq!(live.left_in_work(), 0);
    }

    #[test]
    fn a_real_copy_from_inside_the_hook_equals_the_trace_up_to_it_and_continues_to_the_end() {
        let Some(folder) = fixtures::folder() else { return };
        let dir = tempfile::tempdir().unwrap();
        let (live, last) = (dir.path().join("lightningd.sqlite3"), dir.path().join("final"));
        fixtures::unpack(&folder, fixtures::MID, &live);
        fixtures::unpack(&folder, fixtures::MID_JOURNAL, &companions(&live)[0]);
        fixtures::unpack(&folder, fixtures::FINAL, &last);
        let work = dir.path().join("work");
        let expected = Expected {
            data_version: fixtures::MID_VERSION,
            node: fixtures::node_of(&last),
        };
        let Copied::Copy(mid) = copy(&live, &work, expected).unwrap() else {
            panic!("not new")
        };

        let mut from_mid = Replay::open(&mid, Durability::Off).unwrap();
        let mut from_empty = Replay::open(&dir.path().join("replayed"), Durability::Off).unwrap();
        for batch in fixtures::trace(&folder) {
            from_empty.apply(&batch).unwrap();
            if batch.data_version > fixtures::MID_VERSION {
                from_mid.apply(&batch).unwrap();
            }
            if batch.data_version == fixtures::MID_VERSION {
                assert_eq!(
                    compare::difference(from_empty.database(), from_mid.database()).unwrap(),
                    None
                );
            }
        }
        let last = Connection::open(last).unwrap();
        for replay in [from_mid, from_empty] {
            assert_eq!(compare::difference(replay.database(), &last).unwrap(), None);
            assert_eq!(check::integrity(replay.database()).unwrap(), None);
            assert!(check::orphans(replay.database()).unwrap().is_empty());
            replay.finish().unwrap();
        }
    }
}
