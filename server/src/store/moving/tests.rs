//! Whatever a store holds is the same after a move, in every direction, and one of two stores serves at most.

use super::*;
use crate::{
    packs::DirectoryPacks,
    store::{
        AccountId, Act, GRACE_MS, HistoryPolicy, Leaving, Office, Store,
        conformance::{self, Session, claim},
        postgres::tests::cluster::Cluster,
    },
};
use backstop_protocol::{
    clock::{SystemClock, UnixMillis},
    hash::sha256,
    id::PackId,
};
use bytes::Bytes;
use getrandom::{SysRng, rand_core::UnwrapErr};
use std::{collections::BTreeSet, path::Path};
use tempfile::TempDir;

const SERVER: ServerKey = ServerKey([7; 32]);

fn file(dir: &Path, name: &str) -> Database {
    Database::File(dir.join(name))
}

fn postgres() -> Database {
    let cluster = Cluster::shared();
    Database::Url(cluster.url(&cluster.database()))
}

async fn open(database: &Database) -> Arc<dyn Store> {
    let rng = &mut UnwrapErr(SysRng);
    match database {
        Database::File(file) => Arc::new(
            SqliteStore::open(file, None, Terms::default(), rng)
                .await
                .unwrap(),
        ),
        Database::Url(url) => Arc::new(
            PostgresStore::open(url, SERVER, Terms::default(), rng)
                .await
                .unwrap(),
        ),
    }
}

async fn mover(from: &Database, to: &Database) -> Result<Mover, MoveError> {
    let rng = &mut UnwrapErr(SysRng);
    Mover::begin((from, to), SERVER, 0, Arc::new(SystemClock), rng).await
}

/// The tables of a database by its own catalogue, without what only says how it came about.
async fn tables_of(link: &mut Link) -> BTreeSet<String> {
    let sql = if link.is_postgres() {
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' AND table_name <> 'migrations'"
    } else {
        "SELECT name FROM sqlite_master
         WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations'"
    };
    let rows = link.rows(sql, &[], &[Kind::Text]).await.unwrap();
    let name = |row: &Vec<Cell>| match &row[0] {
        Cell::Text(name) => name.clone(),
        other => panic!("{other:?}"),
    };
    rows.iter().map(name).collect()
}

/// All that a database holds, table by table, whatever this program knows of it.
async fn everything(database: &Database) -> Vec<(String, Vec<String>)> {
    let mut link = Link::connect(database).await.unwrap();
    let mut all = Vec::new();
    for table in tables_of(&mut link).await {
        let mut columns = link.columns(&table).await.unwrap();
        columns.retain(|column| (table.as_str(), column.name.as_str()) != ("records", "place"));
        // Which store it is, and not what becomes of it, nor what one kind alone says.
        columns.retain(|column| table != "store" || ["one", "id"].contains(&column.name.as_str()));
        let names: Vec<_> = columns
            .iter()
            .map(|column| format!("\"{}\"", column.name))
            .collect();
        let kinds: Vec<_> = columns.iter().map(|column| column.kind).collect();
        let sql = format!("SELECT {} FROM {table}", names.join(", "));
        let rows = link.rows(&sql, &[], &kinds).await.unwrap();
        let mut rows: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
        rows.sort();
        all.push((table, rows));
    }
    link.close().await.unwrap();
    all
}

/// Moves a store to its end; both hold the same then, and the new one alone may be served.
async fn moves(from: &Database, to: &Database) {
    let mut mover = mover(from, to).await.unwrap();
    mover.follow().await.unwrap();
    assert!(matches!(may_serve(to).await, Err(MoveError::NotWhole)));
    may_serve(from).await.unwrap();
    mover.finish(false).await.unwrap();
    assert_eq!(everything(from).await, everything(to).await);
    assert!(matches!(may_serve(from).await, Err(MoveError::Moved)));
    may_serve(to).await.unwrap();
}

macro_rules! travels {
    ($($rule:ident,)*) => {
        /// What is there after the scene of each rule of a store travels from SQLite to PostgreSQL and on to SQLite.
        mod what_is_there_after {
            use super::*;
            $(
                #[tokio::test]
                async fn $rule() {
                    let dir = tempfile::tempdir().unwrap();
                    let (first, second, third) = (file(dir.path(), "1"), postgres(), file(dir.path(), "3"));
                    let store = open(&first).await;
                    conformance::$rule(store.clone()).await;
                    store.close().await;
                    moves(&first, &second).await;
                    moves(&second, &third).await;
                }
            )*
        }
    };
}

conformance::for_every_rule!(travels);

#[tokio::test]
async fn every_table_travels() {
    let dir = tempfile::tempdir().unwrap();
    for database in [file(dir.path(), "1"), postgres()] {
        open(&database).await.close().await;
        let mut known: BTreeSet<_> = tables::all().map(|table| table.name.to_owned()).collect();
        known.insert("store".to_owned());
        let mut link = Link::connect(&database).await.unwrap();
        assert_eq!(
            tables_of(&mut link).await,
            known,
            "a table that no move knows of would be left behind: name it in moving/tables.rs"
        );
        link.close().await.unwrap();
    }
}

/// What a node does meanwhile: each deed changes other rows.
async fn live(store: &dyn Store, office: &mut Office, session: &mut Session, round: u8) {
    let now = UnixMillis(1_000_000 + u64::from(round) * 40 * 86_400_000);
    for fill in 0..3 {
        session.append(store, 10 * round + fill).await;
    }
    let pack = conformance::sealed_pack(session, round, now);
    store.register_pack(pack.0).await.unwrap();
    store.index_pack(pack.1).await.unwrap();
    let mut commit = session.commit(round, None, &[round], &[]);
    commit.now = now;
    store.commit_snapshot(commit).await.unwrap();
    // A run of a higher epoch replaces the head.
    let head = session.head;
    let last = store
        .records(session.account, head.seq, 1)
        .await
        .unwrap()
        .remove(0);
    let prev = backstop_protocol::record::RecordHeader::parse(&last.sealed)
        .unwrap()
        .prev;
    let next = claim(1, round + 100, session.writer.epoch, session.writer.epoch + 1);
    let old = session.clone();
    *session = Session::open(store, 1, next).await;
    let replaces = session.record(old.head.seq, prev, round + 200, 400);
    session.head = store.append(replaces).await.unwrap().head;
    let policy = HistoryPolicy {
        snapshots: 1,
        days: 1,
    };
    while store.drop_history(session.account, &policy, now).await.unwrap() {}
    while store
        .drop_chunks(session.account, UnixMillis(now.0 + GRACE_MS + 1))
        .await
        .unwrap()
    {}
    let going = store
        .begin_removals(session.account, UnixMillis(now.0 + 3 * GRACE_MS))
        .await
        .unwrap();
    for pack in going {
        let removal = store.hold_removal(session.account, pack).await.unwrap();
        removal.unwrap().end().await.unwrap();
    }
    // Another node comes, and the one before it goes and comes again as another account.
    let guest = Session::first(store, 50 + round).await;
    office
        .act(&Act::Remove(guest.account, UnixMillis(1)))
        .await
        .unwrap();
    if round.is_multiple_of(2) {
        loop {
            let left = store.remove_some(guest.account, UnixMillis(2)).await.unwrap();
            if matches!(left, Leaving::Gone { .. }) {
                break;
            }
        }
        Session::first(store, 50 + round).await;
    }
}

async fn follows_a_store_that_lives(from: Database, to: Database) {
    let store = open(&from).await;
    let mut office = match &from {
        Database::File(file) => Office::of_file(file).await.unwrap(),
        Database::Url(url) => Office::of_url(url).await.unwrap(),
    };
    let mut session = Session::first(&*store, 1).await;
    for round in 1..6 {
        live(&*store, &mut office, &mut session, round).await;
        // Each time another process, as after any end of the one before.
        mover(&from, &to).await.unwrap().follow().await.unwrap();
        assert_eq!(everything(&from).await, everything(&to).await, "round {round}");
    }
    mover(&from, &to).await.unwrap().finish(false).await.unwrap();
    let refused = store.append(session.next(1)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(
        store.account(session.account, UnixMillis(3)).await.is_ok(),
        "reading goes on"
    );
    let moved = open(&to).await;
    assert_eq!(moved.id(), store.id());
    // The session goes on in the new place, and no account gets a number that another one had.
    session.append(&*moved, 77).await;
    let new = Session::first(&*moved, 99).await;
    let known = moved.accounts(AccountId(i64::MIN), 1000).await.unwrap();
    assert_eq!(known.last(), Some(&new.account));
    moved.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_sqlite_store_that_lives_is_followed_to_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    follows_a_store_that_lives(file(dir.path(), "1"), postgres()).await;
}

#[tokio::test]
async fn a_postgresql_store_that_lives_is_followed_to_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    follows_a_store_that_lives(postgres(), file(dir.path(), "2")).await;
}

#[tokio::test]
async fn a_postgresql_store_that_lives_is_followed_to_another() {
    follows_a_store_that_lives(postgres(), postgres()).await;
}

/// A store with one record, and a place for it to go to.
async fn small() -> (TempDir, Database, Database, Session, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (file(dir.path(), "1"), file(dir.path(), "2"));
    let store = open(&from).await;
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    (dir, from, to, session, store)
}

#[tokio::test]
async fn a_hand_over_that_broke_off_is_taken_back_or_gone_on_with() {
    let (_dir, from, to, mut session, store) = small().await;
    let mut first = mover(&from, &to).await.unwrap();
    standing::freeze(&mut first.source, first.own).await.unwrap();
    assert!(matches!(may_serve(&from).await, Err(MoveError::HandingOver)));
    assert!(store.append(session.next(2)).await.is_err());
    assert!(matches!(
        mover(&from, &to).await.unwrap().follow().await,
        Err(MoveError::HandingOver)
    ));
    abandon(&from).await.unwrap();
    session.append(&*store, 2).await;
    assert!(matches!(abandon(&from).await, Err(MoveError::NotHandingOver)));
    // The one that began it does not know, and is too late.
    assert!(matches!(first.finish(false).await, Err(MoveError::Overtaken)));
    session.append(&*store, 3).await;
    let mut second = mover(&from, &to).await.unwrap();
    standing::freeze(&mut second.source, second.own).await.unwrap();
    drop(second);
    mover(&from, &to).await.unwrap().finish(false).await.unwrap();
    assert!(matches!(abandon(&from).await, Err(MoveError::NotHandingOver)));
    assert_eq!(everything(&from).await, everything(&to).await);
}

#[tokio::test]
async fn between_giving_up_the_old_store_and_releasing_the_new_one_none_is_served_and_the_same_command_goes_on()
 {
    let (_dir, from, to, _session, store) = small().await;
    let mut first = mover(&from, &to).await.unwrap();
    standing::freeze(&mut first.source, first.own).await.unwrap();
    first.pass(false).await.unwrap();
    first
        .source
        .script("UPDATE store SET moved_at = 1")
        .await
        .unwrap();
    drop(first);
    assert!(may_serve(&from).await.is_err() && may_serve(&to).await.is_err());
    assert!(matches!(abandon(&from).await, Err(MoveError::NotHandingOver)));
    mover(&from, &to).await.unwrap().finish(false).await.unwrap();
    may_serve(&to).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn of_two_copies_the_later_alone_writes_and_none_writes_to_a_store_that_was_released() {
    let (_dir, from, to, mut session, store) = small().await;
    let mut earlier = mover(&from, &to).await.unwrap();
    let mut later = mover(&from, &to).await.unwrap();
    assert!(matches!(earlier.follow().await, Err(MoveError::Overtaken)));
    later.follow().await.unwrap();
    session.append(&*store, 2).await;
    later.finish(false).await.unwrap();
    let before = everything(&to).await;
    let late = earlier.follow().await;
    assert!(matches!(late, Err(MoveError::Overtaken)), "{late:?}");
    assert!(matches!(later.pass(false).await, Err(MoveError::Overtaken)));
    assert_eq!(everything(&to).await, before);
    assert!(matches!(mover(&from, &to).await, Err(MoveError::SameStore)));
}

#[tokio::test]
async fn a_place_that_holds_something_else_is_left_alone() {
    let (dir, from, to, _session, _store) = small().await;
    let other = file(dir.path(), "3");
    let stranger = open(&other).await;
    Session::first(&*stranger, 2).await;
    let before = everything(&other).await;
    assert!(matches!(mover(&from, &other).await, Err(MoveError::NotEmpty)));
    mover(&from, &to).await.unwrap();
    assert!(matches!(mover(&other, &to).await, Err(MoveError::OtherCopy)));
    assert!(matches!(mover(&to, &other).await, Err(MoveError::NotWhole)));
    assert!(matches!(mover(&from, &from).await, Err(MoveError::SameStore)));
    assert_eq!(everything(&other).await, before);
}

#[tokio::test]
async fn packs_travel_and_one_that_is_lost_is_named_marked_and_looked_for_again() {
    let (dir, from, to, session, store) = small().await;
    let old: Arc<dyn PackStore> = Arc::new(DirectoryPacks::open(&dir.path().join("old")).unwrap());
    let new: Arc<dyn PackStore> = Arc::new(DirectoryPacks::open(&dir.path().join("new")).unwrap());
    let bytes = |fill: u8| Bytes::from(vec![fill; 400]);
    let id = |fill: u8| PackId(sha256(&bytes(fill)));
    for fill in [1, 2] {
        let (mut arrival, mut index) = conformance::sealed_pack(&session, fill, UnixMillis(5));
        (arrival.pack, index.pack) = (id(fill), id(fill));
        store.register_pack(arrival).await.unwrap();
        store.index_pack(index).await.unwrap();
    }
    old.put(session.account, id(1), bytes(1)).await.unwrap();
    let begin = async || {
        let mut mover = mover(&from, &to).await.unwrap();
        mover.carry(Some(PackMove {
            from: old.clone(),
            to: new.clone(),
        }));
        mover
    };
    let tally = begin().await.follow().await.unwrap();
    assert_eq!((tally.packs, tally.lost_packs.len()), (1, 1));
    assert!(tally.lost_packs[0].contains(&id(2).to_string()));
    assert_eq!(
        new.get(session.account, id(1), None).await.unwrap(),
        Some(bytes(1))
    );
    let moved = open(&to).await;
    assert_eq!(moved.damaged_packs(session.account).await.unwrap(), [id(2)]);
    moved.close().await;
    // As long as it is lost it stands in the way of a hand-over, and the old store goes on.
    assert!(matches!(
        begin().await.finish(false).await,
        Err(MoveError::Faults(1))
    ));
    may_serve(&from).await.unwrap();
    old.put(session.account, id(2), bytes(2)).await.unwrap();
    let tally = begin().await.follow().await.unwrap();
    assert_eq!((tally.packs, tally.lost_packs.len()), (1, 0));
    begin().await.finish(false).await.unwrap();
    assert_eq!(
        new.get(session.account, id(2), None).await.unwrap(),
        Some(bytes(2))
    );
    assert_eq!(everything(&from).await, everything(&to).await);
}
