//! Tests of the copy of the live database.

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

    /// Taken, made one file, and checked.
    fn copy(&self, data_version: u64) -> Result<Copied, CopyError> {
        let expected = Expected {
            data_version,
            node: NODE,
        };
        recover(
            &take(&self.path(), &self.dir.path().join("work"), None)?,
            expected,
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

#[test]
fn a_damaged_copy_is_found_by_the_check_alone_and_removed() {
    let live = Live::new("delete");
    let mut bytes = fs::read(live.path()).unwrap();
    let last = bytes.len() - 4096;
    bytes[last..].fill(0x5a);
    fs::write(live.path(), bytes).unwrap();
    let expected = Expected {
        data_version: 7,
        node: NODE,
    };
    let copied = copy(&live.path(), &live.dir.path().join("work"), expected);
    let Ok(Copied::Copy(copied)) = copied else {
        panic!("the copy is not read to its end")
    };
    assert!(matches!(check(&copied), Err(CopyError::Damaged(_))));
    assert_eq!(live.left_in_work(), 0);
}

#[test]
fn the_check_of_a_copy_writes_nothing_to_it() {
    for mode in ["delete", "wal"] {
        let live = Live::new(mode);
        let expected = Expected {
            data_version: 7,
            node: NODE,
        };
        let copied = copy(&live.path(), &live.dir.path().join("work"), expected);
        let Ok(Copied::Copy(copied)) = copied else {
            panic!("not new")
        };
        let (bytes, written) = (fs::read(&copied).unwrap(), stamp(&copied).unwrap());
        check(&copied).unwrap();
        assert_eq!(stamp(&copied).unwrap(), written, "{mode}");
        assert_eq!(fs::read(&copied).unwrap(), bytes, "{mode}");
        assert_eq!(live.left_in_work(), 1, "{mode}");
    }
}

#[test]
fn a_copy_that_takes_too_long_is_given_up_and_leaves_nothing() {
    let live = Live::new("delete");
    let taken = take(&live.path(), &live.dir.path().join("work"), Some(Duration::ZERO));
    assert!(matches!(taken, Err(CopyError::TooSlow)));
    assert_eq!(live.left_in_work(), 0);
}
