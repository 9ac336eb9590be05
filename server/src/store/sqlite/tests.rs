//! The conformance suite on SQLite, and what is SQLite's own.

use super::{known::Known, *};
use crate::store::{
    Append, GRACE_MS, Office, Refusal, Tail, Terms,
    conformance::{self, Session},
};
use backstop_protocol::{
    grant::Scope,
    head::Head,
    id::{Network, NodeId, RecordHash},
    record::{RecordHeader, record_hash},
    session::WriterClaim,
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use proptest::prelude::*;
use sqlx::{
    Connection as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::sync::Arc;
use tempfile::TempDir;

async fn open(dir: &TempDir, limit: Option<u64>) -> Result<SqliteStore, OpenError> {
    let file = dir.path().join("store");
    SqliteStore::open(&file, limit, Terms::default(), &mut UnwrapErr(SysRng)).await
}

macro_rules! on_sqlite {
    ($($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let dir = tempfile::tempdir().unwrap();
                let store = Arc::new(open(&dir, None).await.unwrap());
                conformance::$rule(store).await;
            }
        )*
    };
}

conformance::for_every_rule!(on_sqlite);

async fn with_office(dir: &TempDir, terms: Terms) -> (Arc<dyn Store>, Office) {
    let file = dir.path().join("store");
    let store = SqliteStore::open(&file, None, terms, &mut UnwrapErr(SysRng)).await;
    let office = Office::of_file(&file).await.unwrap();
    (Arc::new(store.unwrap()), office)
}

macro_rules! on_sqlite_with_office {
    ($($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let dir = tempfile::tempdir().unwrap();
                conformance::$rule(async |terms: Terms| with_office(&dir, terms).await).await;
            }
        )*
    };
}

conformance::for_every_rule_of_tenants!(on_sqlite_with_office);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_quota_takes_and_refuses_what_a_model_says(
        quota in 1000_u64..20_000, deeds in conformance::deeds(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            conformance::the_ladder_is_the_models(quota, deeds, async |terms: Terms| with_office(&dir, terms).await)
                .await;
        });
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_new_start_and_the_store_keeps_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    let record = session.append(&store, 1).await;
    let id = store.id();
    store.close().await;
    let store = open(&dir, None).await.unwrap();
    assert_eq!(store.id(), id);
    assert_eq!(
        store.append(record.clone()).await.unwrap().head,
        record.header.head(record.hash)
    );
    session.append(&store, 2).await;
}

#[tokio::test]
async fn every_connection_that_writes_is_in_wal_mode_and_fully_synchronous() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    store.close().await;
    let file = format!("sqlite://{}", dir.path().join("store").display());
    let options: SqliteConnectOptions = file.parse().unwrap();
    let mut sloppy = options
        .clone()
        .synchronous(SqliteSynchronous::Normal)
        .connect()
        .await
        .unwrap();
    let refused = check_durable(&mut sloppy).await;
    assert!(matches!(
        refused,
        Err(OpenError::NotDurable {
            setting: "synchronous",
            ..
        })
    ));
    sloppy.close().await.unwrap();
    let mut rollback = options
        .journal_mode(SqliteJournalMode::Delete)
        .connect()
        .await
        .unwrap();
    let refused = check_durable(&mut rollback).await;
    assert!(matches!(
        refused,
        Err(OpenError::NotDurable {
            setting: "journal_mode",
            ..
        })
    ));
}

#[tokio::test]
async fn a_migration_that_lacks_below_the_newest_one_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir, None).await.unwrap().close().await;
    let file = dir.path().join("store");
    check_current(&file).await.unwrap();
    let mut connection = SqliteConnectOptions::new()
        .filename(&file)
        .connect()
        .await
        .unwrap();
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version = 4")
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(matches!(check_current(&file).await, Err(OpenError::NotCurrent)));
}

#[tokio::test]
async fn data_of_a_newer_program_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir, None).await.unwrap().close().await;
    let options = SqliteConnectOptions::new().filename(dir.path().join("store"));
    let mut connection = options.connect().await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    assert!(matches!(open(&dir, None).await, Err(OpenError::Newer(9999))));
}

#[tokio::test]
async fn a_replaced_record_is_kept_with_the_time_and_the_epoch_of_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    conformance::a_higher_epoch_replaces_the_last_record_and_no_other(Arc::new(store)).await;
    let options = SqliteConnectOptions::new().filename(dir.path().join("store"));
    let mut connection = options.connect().await.unwrap();
    let kept: (i64, i64, i64, i64, i64) = sqlx::query_as(
        "SELECT seq, epoch, replaced_by, received_at, replaced_at FROM replaced_records WHERE length(sealed) = bytes",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(kept, (2, 1, 2, 1_000_000, 1_000_000));
}

#[tokio::test]
async fn a_replaced_record_goes_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir, None).await.unwrap());
    conformance::a_higher_epoch_replaces_the_last_record_and_no_other(store.clone()).await;
    let options = SqliteConnectOptions::new().filename(dir.path().join("store"));
    let mut connection = options.connect().await.unwrap();
    let account = store.accounts(AccountId(0), 1).await.unwrap()[0];
    let policy = HistoryPolicy {
        snapshots: 0,
        days: 3,
    };
    for (late, left) in [(0, 1), (1, 0)] {
        let now = UnixMillis(1_000_000 + policy.keep_ms() + late);
        while store.drop_history(account, &policy, now).await.unwrap() {}
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM replaced_records")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(kept, left);
    }
}

#[tokio::test]
async fn what_an_older_program_wrote_is_counted_when_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let first = Migrator {
        migrations: MIGRATIONS.iter().take(1).cloned().collect(),
        ..Migrator::DEFAULT
    };
    first.run(&mut connection).await.unwrap();
    // Three records, a snapshot of the first, and an account without any.
    sqlx::raw_sql(
        "INSERT INTO accounts (account, node, network, created_at, epoch, instance, run, writer_since, writer_seen_at,
            timeline, head_epoch, head_seq, head_received_at, first_seq, log_bytes)
         VALUES (1, zeroblob(33), 'regtest', 0, 1, zeroblob(16), zeroblob(16), 0, 0, zeroblob(16), 1, 3, 30, 1, 1201);
         INSERT INTO accounts (account, node, network, created_at) VALUES (2, zeroblob(33), 'bitcoin', 0);
         INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed) VALUES
            (1, 1, 1, zeroblob(32), 10, 400, zeroblob(400)), (1, 2, 1, zeroblob(32), 20, 400, zeroblob(400)),
            (1, 3, 1, zeroblob(32), 30, 401, zeroblob(401));
         INSERT INTO snapshots (account, id, base_seq, base_hash, committed_at, bytes, manifest)
         VALUES (1, zeroblob(16), 1, zeroblob(32), 15, 5000, zeroblob(400));
         INSERT INTO packs (account, id, bytes, received_at) VALUES (1, zeroblob(32), 400, 12);",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let store = open(&dir, None).await.unwrap();
    let mut connection = SqliteConnectOptions::new()
        .filename(&file)
        .connect()
        .await
        .unwrap();
    let tail = Tail {
        bytes: 801,
        records: 2,
        since: Some(UnixMillis(20)),
        snapshot_bytes: 5000,
        ordered: false,
    };
    let account = accounts::load(&mut connection, AccountId(1)).await.unwrap();
    assert_eq!(account.tail, tail);
    let empty = accounts::load(&mut connection, AccountId(2)).await.unwrap();
    assert_eq!(empty.tail, Tail::default());
    let removed = async |now| {
        store
            .begin_removals(AccountId(1), UnixMillis(now))
            .await
            .unwrap()
            .len()
    };
    assert_eq!(removed(12 + GRACE_MS).await, 0);
    assert_eq!(removed(13 + GRACE_MS).await, 1);
}

/// Fills the store until it refuses; returns the record that had no room.
async fn fill(store: &SqliteStore, session: &mut Session) -> Append {
    for _ in 0..10_000 {
        let next = session.next(7);
        match store.append(next.clone()).await {
            Ok(_) => drop(session.append(store, 7).await),
            Err(StoreError::Full) => return next,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("never full");
}

#[tokio::test]
async fn a_full_database_refuses_leaves_the_log_whole_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, Some(400 << 10)).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    let refused = fill(&store, &mut session).await;
    assert!(matches!(
        store.append(refused.clone()).await,
        Err(StoreError::Full)
    ));
    let full_at = store.account(session.account, UnixMillis(0)).await.unwrap();
    assert_eq!(full_at.head.seq + 1, refused.header.seq);
    let log = store.records(session.account, 1, usize::MAX).await.unwrap();
    assert_eq!(log.len() as u64, full_at.head.seq);
    store.close().await;
    let store = open(&dir, None).await.unwrap();
    assert_eq!(
        store.account(session.account, UnixMillis(0)).await.unwrap(),
        full_at
    );
    assert_eq!(
        store.append(refused.clone()).await.unwrap().head,
        refused.header.head(refused.hash)
    );
}

#[tokio::test]
async fn a_record_too_large_for_the_disk_does_not_spoil_the_group_it_waits_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir, Some(1 << 20)).await.unwrap());
    let mut waiting = Vec::new();
    for node in 1..=8 {
        let session = Session::first(&*store, node).await;
        let len = if node == 4 { 8 << 20 } else { 1000 };
        let record = session.record(1, RecordHash::NONE, node, len);
        waiting.push((node, record));
    }
    let outcomes = waiting.into_iter().map(|(node, record)| {
        let store = store.clone();
        tokio::spawn(async move { (node, store.append(record).await) })
    });
    for outcome in outcomes.collect::<Vec<_>>() {
        let (node, outcome) = outcome.await.unwrap();
        assert_eq!(
            matches!(outcome, Err(StoreError::Full)),
            node == 4,
            "{node}: {outcome:?}"
        );
        assert_eq!(outcome.is_ok(), node != 4);
    }
}

#[tokio::test]
async fn an_append_whose_caller_went_away_is_whole_or_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir, None).await.unwrap());
    let mut session = Session::first(&*store, 1).await;
    for fill in 0..50 {
        let record = session.next(fill);
        let gone = tokio::spawn({
            let (store, record) = (store.clone(), record.clone());
            async move { store.append(record).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        let _ = gone.await;
        session.append(&*store, fill).await;
    }
    let log = store.records(session.account, 1, usize::MAX).await.unwrap();
    assert_eq!(log.len(), 50);
}

/// Appends of two nodes that fit, or do not, in any order.
fn attempts() -> impl Strategy<Value = Vec<(bool, u64, u8)>> {
    proptest::collection::vec((any::<bool>(), 0_u64..3, 0_u8..2), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_group_decides_as_its_appends_one_by_one_would(attempts in attempts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (dirs, mut results) = ([tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()], Vec::new());
            for (dir, together) in dirs.iter().zip([true, false]) {
                let store = Arc::new(open(dir, None).await.unwrap());
                let mut sessions = [Session::first(&*store, 1).await, Session::first(&*store, 2).await];
                let mut appends = Vec::new();
                for (second, skip, fill) in &attempts {
                    let session = &mut sessions[usize::from(*second)];
                    let next = session.next(*fill);
                    let placed = session.record(next.header.seq + skip, next.header.prev, *fill, 366);
                    if *skip == 0 && *fill == 0 {
                        session.assume(&placed);
                    }
                    appends.push(placed);
                }
                let mut outcomes = Vec::new();
                if together {
                    let sent: Vec<_> = appends.into_iter().map(|append| {
                        let store = store.clone();
                        tokio::spawn(async move { store.append(append).await })
                    }).collect();
                    for one in sent {
                        outcomes.push(one.await.unwrap().map(|_| ()).map_err(|error| error.to_string()));
                    }
                } else {
                    for append in appends {
                        outcomes.push(store.append(append).await.map(|_| ()).map_err(|error| error.to_string()));
                    }
                }
                let logs = [
                    store.records(sessions[0].account, 1, usize::MAX).await.unwrap(),
                    store.records(sessions[1].account, 1, usize::MAX).await.unwrap(),
                ];
                results.push((outcomes, logs));
            }
            assert_eq!(results[0], results[1]);
        });
    }
}

#[tokio::test]
async fn a_row_that_breaks_the_protocols_limits_is_refused_at_the_last_line_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    let session = Session::first(&store, 1).await;
    let mut short = session.next(1);
    short.sealed = short.sealed.slice(..100);
    assert!(matches!(store.append(short).await, Err(StoreError::Failed(_))));
    let state = store.account(session.account, UnixMillis(0)).await.unwrap();
    assert!(state.head.is_empty());
    assert!(store.append(session.next(1)).await.is_ok());
    assert!(matches!(
        store.append(session.record(9, RecordHash([1; 32]), 1, 366)).await,
        Err(StoreError::Refused(Refusal::NotNext { .. }))
    ));
}

/// Commits exactly these appends together.
async fn group(dir: &TempDir, appends: &[Append]) -> Vec<Result<Head, Refusal>> {
    let mut connection = Settings::new(&dir.path().join("store"), None).connect().unwrap();
    let appends: Vec<_> = appends.iter().cloned().map(Box::new).collect();
    let (terms, mut known) = (Terms::default(), Known::default());
    let outcomes = append::group(&mut connection, &appends, &terms, &mut known)
        .await
        .unwrap();
    let heads = outcomes
        .into_iter()
        .map(|outcome| outcome.map(|appended| appended.head));
    heads.collect()
}

async fn log(store: &SqliteStore, session: &Session) -> Vec<Vec<u8>> {
    let records = store.records(session.account, 1, usize::MAX).await.unwrap();
    records.into_iter().map(|record| record.sealed).collect()
}

fn bytes_of(appends: &[&Append]) -> Vec<Vec<u8>> {
    appends.iter().map(|append| append.sealed.to_vec()).collect()
}

#[tokio::test]
async fn what_another_connection_commits_counts_for_the_very_next_append() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    for fill in 1..=2 {
        // The second one is judged by what the first one left.
        let append = session.next(fill);
        store.append(append.clone()).await.unwrap();
        session.assume(&append);
    }
    let options = SqliteConnectOptions::new().filename(dir.path().join("store"));
    let mut operator = options.connect().await.unwrap();
    let third = session.next(3);
    for (statement, taken) in [
        ("UPDATE accounts SET restored_at = 5", false),
        ("UPDATE accounts SET restored_at = NULL", true),
    ] {
        sqlx::query(statement).execute(&mut operator).await.unwrap();
        let outcome = store.append(third.clone()).await;
        assert_eq!(outcome.is_ok(), taken, "{statement}: {outcome:?}");
        let kept = store.records(session.account, 1, usize::MAX).await.unwrap();
        assert_eq!(kept.len(), if taken { 3 } else { 2 });
    }
}

#[tokio::test]
async fn in_a_group_a_refused_append_changes_nothing_for_those_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    let other = Session::first(&store, 2).await;
    let first = session.next(1);
    session.assume(&first);
    let rival = session.record(1, RecordHash::NONE, 9, 366);
    let ahead = session.record(3, RecordHash([7; 32]), 1, 366);
    let second = session.next(2);
    session.assume(&second);
    let third = session.next(3);
    let of_the_other = other.next(4);
    let of_nobody = Append {
        account: AccountId(99),
        ..of_the_other.clone()
    };
    let fenced = Append {
        writer: crate::store::Writer {
            epoch: 7,
            ..third.writer
        },
        ..third.clone()
    };
    let appends = [
        &first,
        &rival,
        &ahead,
        &second,
        &of_nobody,
        &of_the_other,
        &first,
        &fenced,
        &third,
        &third,
    ];
    let outcomes = group(&dir, &appends.map(Clone::clone)).await;
    let head = |append: &Append| append.header.head(append.hash);
    let not_next = |at: &Append| Err(Refusal::NotNext { head: head(at) });
    let fence = outcomes[7].clone();
    assert!(matches!(fence, Err(Refusal::Fenced { epoch: 1, .. })));
    assert_eq!(
        outcomes,
        [
            Ok(head(&third)),
            not_next(&first),
            not_next(&first),
            Ok(head(&third)),
            Err(Refusal::NotFound),
            Ok(head(&of_the_other)),
            Ok(head(&third)),
            fence,
            Ok(head(&third)),
            Ok(head(&third)),
        ]
    );
    assert_eq!(log(&store, &session).await, bytes_of(&[&first, &second, &third]));
    assert_eq!(log(&store, &other).await, bytes_of(&[&of_the_other]));
    let state = store.account(session.account, UnixMillis(0)).await.unwrap();
    assert_eq!(
        (state.head, state.first_seq, state.log_bytes),
        (head(&third), 1, 3 * 366)
    );
}

#[tokio::test]
async fn a_record_may_be_replaced_in_the_group_that_brought_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    session.writer.epoch = 2;
    let claim = WriterClaim {
        instance: session.writer.instance,
        run: session.writer.run,
        expected_epoch: 1,
        epoch: 2,
        takeover: false,
    };
    let request = SessionRequest {
        invite: None,
        node: NodeId([1; 33]),
        network: Network::Regtest,
        access_key: AccessKey([1; 32]),
        scope: Scope::Append,
        grant: None,
        claim: Some(claim),
        now: UnixMillis(1_000_000),
    };
    store.open_session(request).await.unwrap();
    // As from another server that had it: the record's epoch is below the session's.
    let older = |append: Append| {
        let header = RecordHeader {
            epoch: 1,
            ..append.header
        };
        let mut sealed = header.encode();
        sealed.resize(append.sealed.len(), 1);
        Append {
            header,
            hash: record_hash(&sealed),
            sealed: sealed.into(),
            ..append
        }
    };
    let first = older(session.next(1));
    session.assume(&first);
    let replaced = older(session.next(2));
    let replacing = session.record(2, first.hash, 3, 500);
    session.assume(&replacing);
    let last = session.next(4);
    let sent = [&first, &replaced, &replacing, &replaced, &replacing, &last];
    let outcomes = group(&dir, &sent.map(Clone::clone)).await;
    let head = last.header.head(last.hash);
    let gone = Refusal::NotNext {
        head: replacing.header.head(replacing.hash),
    };
    assert_eq!(
        outcomes,
        [Ok(head), Ok(head), Ok(head), Err(gone), Ok(head), Ok(head)]
    );
    assert_eq!(
        log(&store, &session).await,
        bytes_of(&[&first, &replacing, &last])
    );
    let state = store.account(session.account, UnixMillis(0)).await.unwrap();
    assert_eq!((state.head, state.log_bytes), (head, 366 + 500 + 366));
    let options = SqliteConnectOptions::new().filename(dir.path().join("store"));
    let mut connection = options.connect().await.unwrap();
    let aside: Vec<(i64, i64, i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, epoch, replaced_by, sealed FROM replaced_records")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(aside, [(2, 1, 2, replaced.sealed.to_vec())]);
}

#[tokio::test]
async fn a_group_of_any_size_is_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, None).await.unwrap();
    let mut nodes = [Session::first(&store, 1).await, Session::first(&store, 2).await];
    let mut sent = 0;
    for size in [1, 2, 3, 4, 5, 64, 65, 511, append::GROUP_MAX] {
        let mut appends = Vec::new();
        for fill in 0..size {
            let session = &mut nodes[fill % 2];
            let next = session.next(u8::try_from(fill % 251).unwrap());
            session.assume(&next);
            appends.push(next);
        }
        assert!(group(&dir, &appends).await.iter().all(Result::is_ok));
        sent += size;
        let mut held = 0;
        for session in &nodes {
            let state = store.account(session.account, UnixMillis(0)).await.unwrap();
            assert_eq!(state.head, session.head);
            let log = log(&store, session).await;
            assert_eq!(state.log_bytes, log.iter().map(Vec::len).sum::<usize>() as u64);
            held += log.len();
        }
        assert_eq!(held, sent);
    }
}

#[tokio::test]
async fn a_closing_store_finishes_what_waits_and_ends_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir, None).await.unwrap());
    let mut session = Session::first(&*store, 1).await;
    let mut waiting = Vec::new();
    for fill in 0..50 {
        let next = session.next(fill);
        session.assume(&next);
        let (answer, answered) = oneshot::channel();
        store
            .jobs
            .send(Job::Append(Box::new(next), answer))
            .await
            .unwrap();
        waiting.push(answered);
    }
    store.close().await;
    assert!(store.writer.lock().await.is_none());
    for answered in waiting {
        // Answered before close returned: nobody is left who could answer now.
        assert!(answered.await.unwrap().is_ok());
    }
    // Whoever held the file last took its write-ahead log away.
    assert!(!dir.path().join("store-wal").exists());
    let store = open(&dir, None).await.unwrap();
    assert_eq!(log(&store, &session).await.len(), 50);
}
