//! Appending to logs, a group in one transaction.
//!
//! A group takes two calls of the database however large it is: one reads its accounts, one writes its records and
//! its accounts and commits. Each call costs two changes of the thread, which is more than most of the work in it.

use super::{
    accounts,
    cells::{self, Query, int, length, nulls, rows},
    tail,
};
pub(super) use crate::store::group::{GROUP_MAX, Outcome};
use crate::store::{
    Account, AccountId, Append, StoreError, Terms,
    group::{Group, Log},
};
use sqlx::SqliteConnection;
use std::{collections::HashMap, sync::LazyLock};

/// The columns of a record, in the order in which [`bind`] binds them.
const COLUMNS: [&str; 7] = [
    "account",
    "seq",
    "epoch",
    "hash",
    "received_at",
    "bytes",
    "sealed",
];

/// The statements for groups of up to 1, 2, 4 … [`GROUP_MAX`] appends: few, so that each is prepared once. Smaller
/// groups bind NULL to what remains, which neither finds nor writes anything.
static STATEMENTS: LazyLock<Vec<Statements>> = LazyLock::new(|| {
    let sizes = std::iter::successors(Some(1), |size| Some(size * 2));
    sizes
        .take_while(|size| *size <= GROUP_MAX)
        .map(Statements::new)
        .collect()
});

struct Statements {
    size: usize,
    /// Begins the transaction and reads the accounts.
    begin: String,
    /// Writes records alone.
    insert: String,
    /// Writes records and accounts, and commits.
    commit: String,
}

impl Statements {
    fn new(size: usize) -> Self {
        let insert = format!(
            "INSERT INTO records ({}) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL",
            COLUMNS.join(", "),
            rows(size, COLUMNS.len()),
        );
        Self {
            size,
            begin: format!(
                "BEGIN IMMEDIATE; SELECT * FROM accounts WHERE account IN {}",
                rows(1, size)
            ),
            commit: format!("{insert}; {}; COMMIT", accounts::update(size)),
            insert,
        }
    }

    fn of(appends: usize) -> Result<&'static Self, StoreError> {
        STATEMENTS
            .iter()
            .find(|statements| statements.size >= appends)
            .ok_or_else(|| StoreError::Unavailable("too many appends in a group".to_owned()))
    }
}

/// The logs, on the connection whose transaction it is.
struct Logs<'c>(&'c mut SqliteConnection);

/// Judges each append, writes what is good, and commits. An error of the database is the whole group's, and leaves the
/// transaction to the caller; refusals are each append's own, and wrote nothing. At most [`GROUP_MAX`] appends.
pub(super) async fn group(
    connection: &mut SqliteConnection,
    appends: &[Box<Append>],
    terms: &Terms,
) -> Result<Vec<Outcome>, StoreError> {
    let mut group = Group::new(begin(connection, appends).await?, terms);
    let mut logs = Logs(connection);
    for append in appends {
        group.judge(&mut logs, append).await?;
    }
    commit(connection, &group).await?;
    Ok(group.outcomes())
}

async fn begin(
    connection: &mut SqliteConnection,
    appends: &[Box<Append>],
) -> Result<HashMap<AccountId, Account>, StoreError> {
    let query = sqlx::query(Statements::of(appends.len())?.begin.as_str());
    let found = appends
        .iter()
        .fold(query, |query, append| query.bind(append.account.0))
        .fetch_all(connection)
        .await?;
    found
        .iter()
        .map(|row| accounts::read(row).map(|account| (account.id, account)))
        .collect()
}

/// Writes what is left to be written and commits.
async fn commit(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<(), StoreError> {
    let (records, accounts) = (&group.waiting, group.changed());
    let statements = Statements::of(records.len().max(accounts.len()))?;
    let mut query = sqlx::query(statements.commit.as_str());
    for append in records {
        query = bind(query, append)?;
    }
    query = nulls(query, (statements.size - records.len()) * COLUMNS.len());
    for account in &accounts {
        query = accounts::bind(query, account)?;
    }
    query = accounts::bind_none(query, statements.size - accounts.len());
    query.execute(connection).await?;
    Ok(())
}

impl Log for Logs<'_> {
    async fn write(&mut self, records: &[&Append]) -> Result<(), StoreError> {
        let statements = Statements::of(records.len())?;
        let mut query = sqlx::query(statements.insert.as_str());
        for append in records {
            query = bind(query, append)?;
        }
        nulls(query, (statements.size - records.len()) * COLUMNS.len())
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    async fn holds(&mut self, append: &Append) -> Result<bool, StoreError> {
        holds(self.0, append).await
    }

    async fn holds_before(&mut self, append: &Append) -> Result<bool, StoreError> {
        holds_before(self.0, append).await
    }

    async fn set_aside(&mut self, account: &mut Account, append: &Append) -> Result<u64, StoreError> {
        set_aside(self.0, account, append).await
    }
}

/// Binds one record.
fn bind<'q>(query: Query<'q>, append: &Append) -> Result<Query<'q>, StoreError> {
    Ok(query
        .bind(append.account.0)
        .bind(int(append.header.seq)?)
        .bind(int(append.header.epoch)?)
        .bind(append.hash.0.to_vec())
        .bind(int(append.now.0)?)
        .bind(length(&append.sealed)?)
        .bind(append.sealed.to_vec()))
}

async fn holds(connection: &mut SqliteConnection, append: &Append) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM records WHERE account = ? AND seq = ? AND hash = ?")
        .bind(append.account.0)
        .bind(int(append.header.seq)?)
        .bind(append.hash.0.as_slice())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

async fn holds_before(connection: &mut SqliteConnection, append: &Append) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM records WHERE account = ? AND seq = ? - 1 AND hash = ?")
        .bind(append.account.0)
        .bind(int(append.header.seq)?)
        .bind(append.header.prev.0.as_slice())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

async fn set_aside(
    connection: &mut SqliteConnection,
    account: &mut Account,
    append: &Append,
) -> Result<u64, StoreError> {
    let seq = int(append.header.seq)?;
    let now = int(append.now.0)?;
    // By the session's epoch: the record's own may be lower than that of a branch that never counted.
    sqlx::query(
        "INSERT INTO replaced_records (account, seq, epoch, hash, received_at, replaced_at, replaced_by, bytes, sealed)
         SELECT account, seq, epoch, hash, received_at, ?, ?, bytes, sealed FROM records WHERE account = ? AND seq >= ?",
    )
    .bind(now)
    .bind(int(append.writer.epoch)?)
    .bind(append.account.0)
    .bind(seq)
    .execute(&mut *connection)
    .await?;
    let gone = sqlx::query("DELETE FROM records WHERE account = ? AND seq >= ? RETURNING hash, bytes")
        .bind(append.account.0)
        .bind(seq)
        .fetch_all(&mut *connection)
        .await?;
    let bytes = cells::set_aside(&gone, account.head.hash)?;
    let off_chain = sqlx::query(
        "UPDATE snapshots SET off_chain_at = ? WHERE account = ? AND base_seq >= ? AND off_chain_at IS NULL",
    )
    .bind(now)
    .bind(append.account.0)
    .bind(seq)
    .execute(&mut *connection)
    .await?;
    if off_chain.rows_affected() == 0 && gone.len() == 1 {
        account.tail.take_back(bytes);
    } else {
        // The tail reaches down to another snapshot now, or lost more than its end.
        account.tail = tail::measure(connection, account).await?;
    }
    Ok(bytes)
}
