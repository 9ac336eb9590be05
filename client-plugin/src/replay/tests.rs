use super::*;
use backstop_protocol::id::RunId;
use rusqlite::types::ValueRef;

fn batch(version: u64, statements: &[&[u8]]) -> Batch {
    let update = format!(
        "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {}",
        version.saturating_sub(1)
    );
    let mut statements: Vec<_> = statements.iter().map(|s| s.to_vec()).collect();
    statements.push(update.into_bytes());
    Batch {
        run: RunId([1; 16]),
        opens_run: false,
        outside_transaction: false,
        data_version: version,
        statements,
    }
}

fn bare(version: u64, statement: &str) -> Batch {
    Batch {
        outside_transaction: true,
        statements: vec![statement.into()],
        ..batch(version, &[])
    }
}

/// The least that a first batch of lightningd does.
fn first() -> Batch {
    batch(
        1,
        &[
            b"CREATE TABLE vars (name TEXT, val TEXT, intval INTEGER, blobval BLOB, PRIMARY KEY (name));",
            b"INSERT INTO vars (name, intval) VALUES ('data_version', 0)",
            b"CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT, b BLOB, p INTEGER REFERENCES t(id) ON DELETE CASCADE)",
        ],
    )
}

struct Fresh {
    dir: tempfile::TempDir,
    replay: Replay,
}

fn fresh() -> Fresh {
    let dir = tempfile::tempdir().unwrap();
    let mut replay = Replay::open(&dir.path().join("db"), Durability::Off).unwrap();
    replay.apply(&first()).unwrap();
    Fresh { dir, replay }
}

fn count(replay: &Replay) -> i64 {
    replay
        .database()
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn each_batch_must_raise_the_version_from_its_predecessor() {
    let mut fresh = fresh();
    fresh
        .replay
        .apply(&batch(2, &[b"INSERT INTO t (v) VALUES ('a')"]))
        .unwrap();
    for wrong in [2, 4, 1] {
        let refused = fresh
            .replay
            .apply(&batch(wrong, &[b"INSERT INTO t (v) VALUES ('b')"]));
        assert!(
            matches!(refused, Err(ReplayError::Version { batch, database: Some(2) }) if batch == wrong),
            "{refused:?}"
        );
    }
    assert_eq!(fresh.replay.data_version(), Some(2));
    assert_eq!(count(&fresh.replay), 1, "what a refused batch did is rolled back");
}

#[test]
fn a_batch_without_the_version_update_is_refused_inside_a_transaction() {
    let mut fresh = fresh();
    let mut silent = batch(1, &[b"INSERT INTO t (v) VALUES ('a')", b"DELETE FROM t"]);
    silent.statements.pop();
    assert!(matches!(
        fresh.replay.apply(&silent),
        Err(ReplayError::Version { .. })
    ));
}

#[test]
fn a_statement_that_fails_undoes_its_batch_and_is_named_by_number_alone() {
    let mut fresh = fresh();
    let error = fresh
        .replay
        .apply(&batch(
            2,
            &[
                b"INSERT INTO t (v) VALUES ('a')",
                b"INSERT INTO secret_table VALUES ('s3cr3t')",
            ],
        ))
        .unwrap_err();
    assert!(matches!(
        error,
        ReplayError::Statement {
            data_version: 2,
            number: 2,
            ..
        }
    ));
    let (shown, debugged) = (error.to_string(), format!("{error:?}"));
    assert!(
        !shown.contains("s3cr3t") && !debugged.contains("s3cr3t"),
        "{shown}"
    );
    assert_eq!(count(&fresh.replay), 0);
    fresh.replay.apply(&batch(2, &[])).unwrap();
}

#[test]
fn one_statement_is_one_statement_and_none_leaves_its_transaction_or_file() {
    let mut fresh = fresh();
    let elsewhere = fresh.dir.path().join("other").display().to_string();
    for refused in [
        "INSERT INTO t (v) VALUES ('a'); DELETE FROM t".to_owned(),
        "COMMIT".to_owned(),
        " /* c */ -- d\n ; rollback".to_owned(),
        format!("ATTACH '{elsewhere}' AS o"),
        format!("VACUUM INTO '{elsewhere}'"),
        "INSERT INTO t (v) VALUES (?1)".to_owned(),
        "INSERT INTO t (v) VALUES ('a')\0; DELETE FROM t".to_owned(),
    ] {
        assert!(
            fresh.replay.apply(&batch(2, &[refused.as_bytes()])).is_err(),
            "{refused:?}"
        );
        assert_eq!(fresh.replay.data_version(), Some(1));
    }
    assert!(!Path::new(&elsewhere).exists());
    fresh
        .replay
        .apply(&batch(2, &[b"INSERT INTO t (v) VALUES ('a') ; -- end"]))
        .unwrap();
}

#[test]
fn foreign_keys_are_on_at_the_start_of_each_run_and_off_only_while_lightningd_says_so() {
    let mut fresh = fresh();
    let rows: [&[u8]; 2] = [
        b"INSERT INTO t (id) VALUES (1)",
        b"INSERT INTO t (id, p) VALUES (2, 1)",
    ];
    fresh.replay.apply(&batch(2, &rows)).unwrap();
    fresh
        .replay
        .apply(&bare(2, "PRAGMA foreign_keys = OFF;"))
        .unwrap();
    assert!(!fresh.replay.foreign_keys().unwrap());
    fresh
        .replay
        .apply(&batch(3, &[b"DELETE FROM t WHERE id = 1"]))
        .unwrap();
    assert_eq!(count(&fresh.replay), 1, "no cascade while they are off");
    fresh
        .replay
        .apply(&Batch {
            run: RunId([2; 16]),
            ..batch(4, &rows[..1])
        })
        .unwrap();
    assert!(fresh.replay.foreign_keys().unwrap());
    fresh
        .replay
        .apply(&batch(5, &[b"DELETE FROM t WHERE id = 1"]))
        .unwrap();
    assert_eq!(count(&fresh.replay), 0, "a cascade at the next run");
}

#[test]
fn a_batch_outside_a_transaction_repeats_the_version() {
    let mut fresh = fresh();
    fresh.replay.apply(&bare(1, "PRAGMA foreign_keys = ON;")).unwrap();
    assert!(matches!(
        fresh.replay.apply(&bare(2, "PRAGMA foreign_keys = ON;")),
        Err(ReplayError::Version {
            batch: 2,
            database: Some(1)
        })
    ));
}

#[test]
fn a_text_that_is_not_utf8_is_stored_byte_for_byte_as_text() {
    let mut fresh = fresh();
    let statement: &[u8] =
        b"INSERT INTO t (id, v, b) VALUES (7, 'it''s \xff\xfe\x80 ? -- \xe2\x82', x'ff27')";
    fresh.replay.apply(&batch(2, &[statement])).unwrap();
    let check = |text: &[u8]| {
        let found: (Vec<u8>, String, Vec<u8>) = fresh
            .replay
            .database()
            .query_row("SELECT v, typeof(v), b FROM t WHERE id = 7", [], |row| {
                let ValueRef::Text(bytes) = row.get_ref(0)? else {
                    panic!("not a text")
                };
                Ok((bytes.to_vec(), row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(found, (text.to_vec(), "text".to_owned(), b"\xff'".to_vec()));
    };
    check(b"it's \xff\xfe\x80 ? -- \xe2\x82");
}

#[test]
fn a_text_that_is_not_utf8_compares_as_a_literal_does() {
    let mut fresh = fresh();
    let put: &[u8] = b"INSERT INTO t (id, v) VALUES (1, 'a\xff'), (2, 'b\xfe')";
    let update: &[u8] = b"UPDATE t SET v = 'a\xff' || 'c\xfd' WHERE v='b\xfe' AND v<>'a\xff'";
    let delete: &[u8] = b"DELETE FROM t WHERE v IN('a\xff','\xf0')";
    fresh.replay.apply(&batch(2, &[put, update, delete])).unwrap();
    let left: Vec<u8> = fresh
        .replay
        .database()
        .query_row("SELECT CAST(v AS BLOB) FROM t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, b"a\xffc\xfd");
}

#[test]
fn bytes_that_are_not_utf8_outside_a_text_literal_are_refused() {
    let mut fresh = fresh();
    for statement in [
        &b"INSERT INTO \xff VALUES (1)"[..],
        b"INSERT INTO t (v) VALUES ('\xff",
        b"INSERT INTO \"\xff\" VALUES (1)",
    ] {
        assert!(fresh.replay.apply(&batch(2, &[statement])).is_err());
    }
}

#[test]
fn a_live_database_keeps_its_journal_mode_and_must_exist() {
    let fresh = fresh();
    let path = fresh.dir.path().join("db");
    fresh.replay.finish().unwrap();
    for mode in ["wal", "delete"] {
        let conn = Connection::open(&path).unwrap();
        pragma(&conn, &format!("journal_mode={mode}")).unwrap();
        conn.close().unwrap();
        let mut live = Replay::open(&path, Durability::Full).unwrap();
        let next = live.data_version().unwrap() + 1;
        live.apply(&batch(next, &[])).unwrap();
        live.finish().unwrap();
        let mut built = Replay::open(&path, Durability::Off).unwrap();
        built.apply(&batch(next + 1, &[])).unwrap();
        built.finish().unwrap();
        assert!(
            companions(&path).iter().all(|file| !file.exists()),
            "one file is the whole of it"
        );
        let conn = Connection::open(&path).unwrap();
        let found: String = conn
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(found, mode);
    }
    assert!(Replay::open(&fresh.dir.path().join("none"), Durability::Full).is_err());
}

#[test]
fn a_database_that_somebody_holds_is_refused_at_once() {
    let fresh = fresh();
    let path = fresh.dir.path().join("db");
    fresh.replay.finish().unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut live = Replay::open(&path, Durability::Full).unwrap();
    assert!(matches!(live.apply(&batch(2, &[])), Err(ReplayError::Sqlite(error)) if error.code & 0xff == 5));
}

proptest::proptest! {
    #[test]
    fn no_statement_makes_replay_panic_and_each_leaves_the_version_alone(statement in proptest::collection::vec(proptest::sample::select(b"'\"`[]-/*\n?;:@ xX0aT\xff\xc3\xa9\0(),".as_slice()), 0..40)) {
        let conn = Connection::open_in_memory().unwrap();
        let _ = statement::execute(&conn, &statement);
        proptest::prop_assert!(conn.is_autocommit());
    }

    #[test]
    fn any_text_comes_back_as_it_went_in(text in proptest::collection::vec(1..=255_u8, 0..60)) {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (v TEXT)").unwrap();
        let mut statement = b"INSERT INTO t VALUES ('".to_vec();
        for byte in &text {
            statement.push(*byte);
            if *byte == b'\'' { statement.push(b'\''); }
        }
        statement.extend_from_slice(b"')");
        statement::execute(&conn, &statement).unwrap();
        let stored: (Vec<u8>, String) = conn
            .query_row("SELECT CAST(v AS BLOB), typeof(v) FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        proptest::prop_assert_eq!(stored, (text, "text".to_owned()));
    }
}
