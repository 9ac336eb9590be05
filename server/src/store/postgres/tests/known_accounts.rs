//! Appends to accounts that are known: whatever anybody else wrote meanwhile counts.

use super::*;
use crate::store::{AccountId, Append, postgres::known::Seen};
use backstop_protocol::id::RecordHash;

/// A store and a session whose account is known since its last append.
async fn known() -> (Arc<PostgresStore>, PgConnection, Session) {
    let (store, url) = new().await;
    let mut session = Session::first(&*store, 1).await;
    for fill in 1..=3 {
        session.append(&*store, fill).await;
    }
    (store, other(&url).await, session)
}

#[tokio::test]
async fn what_another_connection_commits_counts_for_the_very_next_append() {
    let (store, mut operator, session) = known().await;
    let next = session.next(4);
    for (statement, taken) in [
        ("UPDATE accounts SET restored_at = 5", false),
        ("UPDATE accounts SET restored_at = NULL", true),
    ] {
        raw_sql(statement).execute(&mut operator).await.unwrap();
        let outcome = store.append(next.clone()).await;
        assert_eq!(outcome.is_ok(), taken, "{statement}: {outcome:?}");
        assert_eq!(log(&store, &session).await.len(), if taken { 4 } else { 3 });
    }
}

#[tokio::test]
async fn an_append_that_another_process_had_already_is_not_written_twice() {
    let (store, url) = new().await;
    let second = open(&url).await.unwrap();
    let mut session = Session::first(&*store, 1).await;
    for fill in 1..=12 {
        let next = session.next(fill);
        let first = store.append(next.clone()).await.unwrap();
        assert_eq!(second.append(next).await.unwrap().head, first.head);
        session.head = first.head;
    }
    assert_eq!(log(&store, &session).await.len(), 12);
}

async fn seen(connection: &mut PgConnection, id: AccountId) -> Seen {
    let account = accounts::load(connection, id).await.unwrap();
    let version = scalar("SELECT xmin::text::bigint FROM accounts WHERE account = $1")
        .bind(id.0)
        .fetch_one(connection)
        .await
        .unwrap();
    Seen { account, version }
}

/// How many accounts the call writes for one append to an account that was seen so.
async fn written(connection: &mut PgConnection, seen: &Seen, append: &Append) -> usize {
    let mut new = seen.account.clone();
    new.advance(append, 0);
    let statement = at_once::statement(&[at_once::Change { seen, new: &new }], &[append], "on");
    let rows = raw_sql(sqlx::AssertSqlSafe(statement.unwrap()))
        .fetch_all(connection)
        .await;
    at_once::read(&rows.unwrap()).unwrap().accounts.len()
}

#[tokio::test]
async fn a_version_that_came_back_makes_no_other_chain_and_no_other_writer_the_right_one() {
    let (store, mut connection, session) = known().await;
    let right = seen(&mut connection, session.account).await;
    let next = session.next(4);
    let mut other_version = right.clone();
    other_version.version += 1;
    let mut other_chain = right.clone();
    other_chain.account.head.hash = RecordHash([9; 32]);
    let mut other_writer = right.clone();
    if let Some(seat) = &mut other_writer.account.seat {
        seat.writer.epoch += 1;
    }
    for wrong in [&other_version, &other_chain, &other_writer] {
        assert_eq!(written(&mut connection, wrong, &next).await, 0);
        assert_eq!(log(&store, &session).await.len(), 3);
    }
    assert_eq!(written(&mut connection, &right, &next).await, 1);
    assert_eq!(log(&store, &session).await.len(), 4);
}

#[tokio::test]
async fn an_account_at_work_elsewhere_is_left_alone_and_the_others_are_written() {
    let (store, mut elsewhere, busy) = known().await;
    let mut free = Session::first(&*store, 2).await;
    free.append(&*store, 1).await;
    let mut transaction = sqlx::Connection::begin(&mut elsewhere).await.unwrap();
    accounts::lock(&mut transaction, busy.account).await.unwrap();
    let waiting = tokio::spawn({
        let (store, next) = (store.clone(), busy.next(4));
        async move { store.append(next).await }
    });
    for fill in 2..=20 {
        free.append(&*store, fill).await;
    }
    assert!(!waiting.is_finished());
    transaction.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(log(&store, &busy).await.len(), 4);
}
