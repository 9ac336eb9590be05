//! The conformance suite on PostgreSQL, and what is PostgreSQL's own.

#[path = "../../../../tests/src/cluster.rs"]
#[expect(unreachable_pub, reason = "another crate has this file too, and shows it")]
pub(in crate::store) mod cluster;
mod faults;
mod known_accounts;
mod pooler;

use super::*;
use crate::store::{
    Office, Refusal,
    conformance::{self, Session},
};
use cells::scalar;
use cluster::Cluster;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sqlx::{PgConnection, raw_sql};
use std::sync::Arc;

const SERVER: ServerKey = ServerKey([7; 32]);

async fn open(url: &str) -> Result<PostgresStore, OpenError> {
    PostgresStore::open(url, SERVER, Terms::default(), &mut UnwrapErr(SysRng)).await
}

/// A store in a database of its own.
async fn new() -> (Arc<PostgresStore>, String) {
    let cluster = Cluster::shared();
    let url = cluster.url(&cluster.database());
    (Arc::new(open(&url).await.unwrap()), url)
}

macro_rules! on_postgres {
    ($($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let (store, _) = new().await;
                conformance::$rule(store.clone()).await;
                store.close().await;
            }
        )*
    };
}

conformance::for_every_rule!(on_postgres);

macro_rules! on_postgres_with_office {
    ($($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                conformance::$rule(async |terms: Terms| {
                    let cluster = Cluster::shared();
                    let url = cluster.url(&cluster.database());
                    let store = PostgresStore::open(&url, SERVER, terms, &mut UnwrapErr(SysRng)).await;
                    let store: Arc<dyn Store> = Arc::new(store.unwrap());
                    (store, Office::of_url(&url).await.unwrap())
                })
                .await;
            }
        )*
    };
}

conformance::for_every_rule_of_tenants!(on_postgres_with_office);

async fn log(store: &PostgresStore, session: &Session) -> Vec<Vec<u8>> {
    let records = store.records(session.account, 1, usize::MAX).await.unwrap();
    records.into_iter().map(|record| record.sealed).collect()
}

/// A connection of somebody else.
async fn other(url: &str) -> PgConnection {
    options(url).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_new_start_and_the_store_keeps_its_name() {
    let (store, url) = new().await;
    let mut session = Session::first(&*store, 1).await;
    let record = session.append(&*store, 1).await;
    let id = store.id();
    store.close().await;
    let store = open(&url).await.unwrap();
    assert_eq!(store.id(), id);
    let head = store.append(record.clone()).await.unwrap().head;
    assert_eq!(head, record.header.head(record.hash));
    session.append(&store, 2).await;
}

#[tokio::test]
async fn a_server_that_nodes_did_not_pin_is_kept_out() {
    let (_store, url) = new().await;
    let found = ServerKey([8; 32]);
    let refused = PostgresStore::open(&url, found, Terms::default(), &mut UnwrapErr(SysRng)).await;
    let error = refused.err().unwrap();
    assert!(matches!(error, OpenError::OtherIdentity { expected: SERVER, .. }));
    assert!(error.to_string().contains("identity.key"));
}

#[tokio::test]
async fn data_of_a_newer_program_or_of_another_are_refused() {
    let (store, url) = new().await;
    store.close().await;
    let mut connection = other(&url).await;
    let change = async |connection: &mut PgConnection, sql: &'static str| {
        raw_sql(sql).execute(connection).await.unwrap();
    };
    change(&mut connection, "INSERT INTO migrations VALUES (9999, '\\x00')").await;
    assert!(matches!(open(&url).await, Err(OpenError::Newer(9999))));
    change(&mut connection, "DELETE FROM migrations WHERE version = 9999").await;
    open(&url).await.unwrap().close().await;
    change(&mut connection, "UPDATE migrations SET checksum = '\\x00'").await;
    assert!(matches!(open(&url).await, Err(OpenError::OtherMigration(1))));
}

#[tokio::test]
async fn servers_that_start_at_once_over_an_empty_database_agree() {
    let cluster = Cluster::shared();
    let url = cluster.url(&cluster.database());
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { open(&url).await.unwrap().id() })
        })
        .collect();
    let mut ids = Vec::new();
    for start in starts {
        ids.push(start.await.unwrap());
    }
    assert!(ids.windows(2).all(|two| two[0] == two[1]), "{ids:?}");
}

/// Notes for each record how its transaction commits, when it does.
const NOTE_COMMITS: &str = "CREATE TABLE commits (setting text);
    CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO commits VALUES (current_setting('synchronous_commit'));
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER note_commit AFTER INSERT ON records DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION note_commit();";

#[tokio::test]
async fn a_database_that_does_not_keep_what_is_committed_is_refused() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let url = cluster.url(&database);
    for wrong in ["fsync", "full_page_writes", "synchronous_commit"] {
        cluster.set(&format!("{wrong} = off"));
        cluster.control(&["restart"]);
        let error = open(&url).await.err().unwrap();
        assert!(matches!(error, OpenError::NotDurable { setting, .. } if setting == wrong));
        assert!(error.to_string().contains(wrong));
        cluster.set(&format!("{wrong} = on"));
        cluster.control(&["restart"]);
    }
    let store = open(&url).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    // Turned off under a server that runs, it is off for no commit of ours.
    cluster.set("synchronous_commit = off");
    cluster.control(&["reload"]);
    cluster.sql(&database, NOTE_COMMITS);
    // The first is judged by what the database has, the others by what is known.
    for fill in 1..=3 {
        session.append(&store, fill).await;
    }
    let mut connection = other(&url).await;
    let settings: Vec<String> = scalar("SELECT setting FROM commits")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(settings, ["on", "on", "on"]);
    // And no new connection is used where the disk is not asked any more.
    cluster.set("fsync = off");
    cluster.control(&["restart"]);
    let away = store.append(session.next(4)).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
}

#[tokio::test]
async fn a_read_only_database_is_refused_and_one_that_becomes_so_takes_no_record() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let url = cluster.url(&database);
    let store = open(&url).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    session.append(&store, 1).await;
    let set = |to| {
        cluster.sql(
            "postgres",
            &format!("ALTER DATABASE {database} SET default_transaction_read_only = {to}"),
        );
        let end =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        cluster.sql("postgres", &end);
    };
    set("on");
    assert!(matches!(open(&url).await, Err(OpenError::ReadOnly)));
    let next = session.next(2);
    let away = store.append(next.clone()).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert_eq!(log(&store, &session).await.len(), 1);
    set("off");
    store.append(next).await.unwrap();
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_database_without_a_connection_to_spare_is_unavailable_and_loses_nothing() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    cluster.sql(
        &database,
        &format!("CREATE ROLE {database} LOGIN; GRANT ALL ON SCHEMA public TO {database}"),
    );
    let url = cluster
        .url(&database)
        .replace("//postgres@", &format!("//{database}@"));
    let store = open(&url).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    let limit = |most: i32| {
        let end =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        cluster.sql(
            "postgres",
            &format!("ALTER ROLE {database} CONNECTION LIMIT {most}; {end}"),
        );
    };
    limit(0);
    let next = session.next(1);
    let away = store.append(next.clone()).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    limit(-1);
    session.head = store.append(next).await.unwrap().head;
    session.append(&store, 2).await;
}

#[tokio::test]
async fn a_refused_row_spoils_nothing_for_those_that_wait_beside_it() {
    let (store, _) = new().await;
    let mut waiting = Vec::new();
    for node in 1..=8 {
        let session = Session::first(&*store, node).await;
        let mut record = session.next(node);
        if node == 4 {
            // Below the protocol's limit, which the database knows too.
            record.sealed = record.sealed.slice(..100);
        }
        waiting.push((node, record));
    }
    let sent = waiting.into_iter().map(|(node, record)| {
        let store = store.clone();
        tokio::spawn(async move { (node, store.append(record).await) })
    });
    for outcome in sent.collect::<Vec<_>>() {
        let (node, outcome) = outcome.await.unwrap();
        assert_eq!(
            matches!(outcome, Err(StoreError::Failed(_))),
            node == 4,
            "{node}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_account_that_is_busy_elsewhere_holds_up_its_own_appends_alone() {
    let (store, url) = new().await;
    let busy = Session::first(&*store, 1).await;
    let mut free = Session::first(&*store, 2).await;
    let mut elsewhere = other(&url).await;
    let mut transaction = sqlx::Connection::begin(&mut elsewhere).await.unwrap();
    accounts::lock(&mut transaction, busy.account).await.unwrap();
    let record = busy.next(1);
    let waiting = tokio::spawn({
        let (store, record) = (store.clone(), record.clone());
        async move { store.append(record).await }
    });
    for fill in 1..=20 {
        free.append(&*store, fill).await;
    }
    assert!(!waiting.is_finished());
    transaction.rollback().await.unwrap();
    let head = waiting.await.unwrap().unwrap().head;
    assert_eq!(head, record.header.head(record.hash));
}

#[tokio::test]
async fn a_transaction_that_a_deadlock_ended_is_run_again() {
    let (store, url) = new().await;
    let session = Session::first(&*store, 1).await;
    let arrival = PackArrival {
        judged: true,
        account: session.account,
        pack: PackId([1; 32]),
        bytes: 1000,
        now: UnixMillis(5),
    };
    store.register_pack(arrival).await.unwrap();
    let mut elsewhere = other(&url).await;
    raw_sql("BEGIN; SET LOCAL deadlock_timeout = '60s'; UPDATE packs SET touched_at = 6")
        .execute(&mut elsewhere)
        .await
        .unwrap();
    let registering = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .register_pack(PackArrival {
                    now: UnixMillis(7),
                    ..arrival
                })
                .await
        }
    });
    // It has the account and waits for the pack.
    let mut look = other(&url).await;
    loop {
        let waits: i64 = scalar("SELECT count(*) FROM pg_locks WHERE NOT granted")
            .fetch_one(&mut look)
            .await
            .unwrap();
        if waits > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    accounts::lock(&mut elsewhere, session.account).await.unwrap();
    raw_sql("COMMIT").execute(&mut elsewhere).await.unwrap();
    registering.await.unwrap().unwrap();
    let touched: i64 = scalar("SELECT touched_at FROM packs")
        .fetch_one(&mut look)
        .await
        .unwrap();
    let deadlocks: i64 = {
        raw_sql("SELECT pg_stat_clear_snapshot()")
            .execute(&mut look)
            .await
            .unwrap();
        scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .fetch_one(&mut look)
            .await
            .unwrap()
    };
    assert_eq!(touched, 7);
    assert!(deadlocks >= 1, "no deadlock came about");
}

/// Lets each new record fail with an error of PostgreSQL's own, as long as the condition holds.
async fn fail_records(url: &str, condition: &str, code: &str) {
    let statements = format!(
        "DROP TRIGGER IF EXISTS fail ON records;
         CREATE SEQUENCE IF NOT EXISTS tries;
         SELECT setval('tries', 1);
         CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF {condition} THEN RAISE EXCEPTION 'as told' USING ERRCODE = '{code}'; END IF;
            RETURN new;
         END $$;
         CREATE TRIGGER fail BEFORE INSERT ON records FOR EACH ROW EXECUTE FUNCTION fail()"
    );
    let mut connection = other(url).await;
    let done = raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut connection);
    done.await.unwrap();
}

#[tokio::test]
async fn a_serialization_failure_is_tried_again_but_not_for_ever() {
    let (store, url) = new().await;
    let mut session = Session::first(&*store, 1).await;
    // A sequence counts on where a transaction is rolled back.
    fail_records(&url, "nextval('tries') <= 3", "40001").await;
    session.append(&*store, 1).await;
    fail_records(&url, "true", "40001").await;
    let next = session.next(2);
    let given_up = store.append(next.clone()).await;
    assert!(
        matches!(given_up, Err(StoreError::Unavailable(_))),
        "{given_up:?}"
    );
    fail_records(&url, "false", "40001").await;
    store.append(next).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_the_record_that_has_no_room_and_no_other() {
    let (store, url) = new().await;
    fail_records(&url, "new.bytes > 5000", "53100").await;
    let mut sent = Vec::new();
    for node in 1..=8 {
        let session = Session::first(&*store, node).await;
        let len = if node == 4 { 8000 } else { 400 };
        let record = session.record(1, session.head.hash, node, len);
        let store = store.clone();
        sent.push(tokio::spawn(async move { (node, store.append(record).await) }));
    }
    for outcome in sent {
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
async fn one_process_removes_a_pack_and_no_other_touches_what_is_stored_again() {
    let (one, url) = new().await;
    let two = open(&url).await.unwrap();
    let session = Session::first(&*one, 1).await;
    let (account, pack) = (session.account, PackId([1; 32]));
    let arrival = PackArrival {
        judged: true,
        account,
        pack,
        bytes: 1000,
        now: UnixMillis(5),
    };
    one.register_pack(arrival).await.unwrap();
    let late = UnixMillis(5 + 2 * crate::store::GRACE_MS);
    assert_eq!(one.begin_removals(account, late).await.unwrap(), [pack]);
    assert_eq!(two.begin_removals(account, late).await.unwrap(), [pack]);
    let removal = one.hold_removal(account, pack).await.unwrap().unwrap();
    assert!(two.hold_removal(account, pack).await.unwrap().is_none());
    let again = PackArrival { now: late, ..arrival };
    assert!(matches!(
        two.register_pack(again).await,
        Err(StoreError::Unavailable(_))
    ));
    // Whoever lets go leaves it to the others.
    drop(removal);
    let removal = loop {
        if let Some(removal) = two.hold_removal(account, pack).await.unwrap() {
            break removal;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    removal.end().await.unwrap();
    one.register_pack(again).await.unwrap();
    assert!(two.hold_removal(account, pack).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_meet_in_one_account_leave_one_chain() {
    let (one, url) = new().await;
    let two = Arc::new(open(&url).await.unwrap());
    for node in 1..=20 {
        // Neither knows of the other's account yet.
        let (mine, theirs) = tokio::join!(
            Session::open(&*one, node, conformance::claim(node, node, 0, 1)),
            Session::open(&*two, node, conformance::claim(node, node, 0, 1)),
        );
        assert_eq!(mine.account, theirs.account);
        let (first, second) = (mine.next(1), theirs.next(2));
        let (won, lost) = tokio::join!(one.append(first), two.append(second));
        let (won, lost) = if won.is_ok() { (won, lost) } else { (lost, won) };
        let head = won.unwrap().head;
        assert!(matches!(lost, Err(StoreError::Refused(Refusal::NotNext { head: seen })) if seen == head));
        assert_eq!(log(&two, &mine).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_restarted_under_appends_loses_none_and_goes_on() {
    const NODES: u8 = 4;
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    let store = Arc::new(open(&url).await.unwrap());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = Vec::new();
    for node in 1..=NODES {
        let mut session = Session::first(&*store, node).await;
        let (store, stopped) = (store.clone(), stopped.clone());
        writers.push(tokio::spawn(async move {
            let (mut sent, mut away) = (Vec::new(), 0);
            while !*stopped.borrow() {
                let next = session.next(u8::try_from(sent.len() % 200).unwrap());
                match store.append(next.clone()).await {
                    Ok(appended) => {
                        session.head = appended.head;
                        sent.push(next.sealed.to_vec());
                    }
                    Err(StoreError::Unavailable(_)) => {
                        away += 1;
                        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            // What was not acknowledged may be there all the same.
            (session, sent, away)
        }));
    }
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        tokio::task::block_in_place(|| cluster.control(&["restart", "-m", "immediate"]));
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    stop.send_replace(true);
    let mut aways = 0;
    for writer in writers {
        let (mut session, sent, away) = writer.await.unwrap();
        aways += away;
        let there = log(&store, &session).await;
        assert_eq!(there, sent);
        assert!(there.len() > 10);
        session.append(&*store, 250).await;
    }
    assert!(aways > 0, "no append met a restart");
}
