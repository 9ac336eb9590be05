//! Appending to logs, a group in one transaction.
//!
//! A group whose accounts are [`Known`] takes one call of the database however large it is: it writes the group's records and
//! accounts and commits, unless somebody else changed the database meanwhile. Other groups take two: the first reads
//! their accounts. Each call costs two changes of the thread, which is more than most of the work in it.

use super::{
    accounts,
    cells::{self, Query, int, length, nulls, rows},
    known::Known,
    tail,
};
pub(super) use crate::store::group::{GROUP_MAX, Outcome};
use crate::store::{
    Account, AccountId, Append, StoreError, Terms,
    group::{Group, Log},
};
use sqlx::{Row as _, SqliteConnection};
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
    /// All of a transaction that does the same where the database is in the state that is bound last of each statement, and
    /// else nothing. Answers how many accounts it wrote.
    at_once: String,
}

/// Holds for the state of the database that is bound here. SQLite gives it another number at each commit of another connection.
const UNCHANGED: &str = "(SELECT data_version FROM pragma_data_version) = ?";

impl Statements {
    fn new(size: usize) -> Self {
        let insert = format!(
            "INSERT INTO records ({}) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL",
            COLUMNS.join(", "),
            rows(size, COLUMNS.len()),
        );
        let update = accounts::update(size);
        Self {
            size,
            begin: format!(
                "BEGIN IMMEDIATE; SELECT data_version FROM pragma_data_version; \
                 SELECT * FROM accounts WHERE account IN {}",
                rows(1, size)
            ),
            commit: format!("{insert}; {update}; COMMIT"),
            at_once: format!(
                "BEGIN IMMEDIATE; {insert} AND {UNCHANGED}; {update} AND {UNCHANGED}; SELECT changes(); COMMIT"
            ),
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
/// transaction to the caller, who forgets what was known; refusals are each append's own, and wrote nothing. At most
/// [`GROUP_MAX`] appends.
pub(super) async fn group(
    connection: &mut SqliteConnection,
    appends: &[Box<Append>],
    terms: &Terms,
    known: &mut Known,
) -> Result<Vec<Outcome>, StoreError> {
    if let Some(mut group) = ahead(appends, terms, known) {
        if commit_at_once(connection, &group, known.data_version()).await? {
            let outcomes = group.outcomes();
            known.left(group.into_accounts());
            return Ok(outcomes);
        }
        known.forget();
    }
    let (data_version, accounts) = begin(connection, appends).await?;
    let mut group = Group::new(accounts, terms);
    let mut logs = Logs(connection);
    for append in appends {
        group.judge(&mut logs, append).await?;
    }
    commit(connection, &group).await?;
    let outcomes = group.outcomes();
    known.read(data_version, group.into_accounts());
    Ok(outcomes)
}

/// The group judged by what is known of its accounts; `None` where that does not suffice, and where nothing is to be written, so
/// that nothing would tell whether it still holds.
fn ahead<'a>(appends: &'a [Box<Append>], terms: &'a Terms, known: &Known) -> Option<Group<'a>> {
    let accounts = known.of(appends.iter().map(|append| append.account))?;
    let mut group = Group::new(accounts, terms);
    let judged = appends.iter().all(|append| group.judge_alone(append));
    (judged && !group.waiting.is_empty()).then_some(group)
}

/// The accounts, and the state of the database that they belong to.
async fn begin(
    connection: &mut SqliteConnection,
    appends: &[Box<Append>],
) -> Result<(i64, HashMap<AccountId, Account>), StoreError> {
    let query = sqlx::query(Statements::of(appends.len())?.begin.as_str());
    let found = appends
        .iter()
        .fold(query, |query, append| query.bind(append.account.0))
        .fetch_all(connection)
        .await?;
    let Some((state, accounts)) = found.split_first() else {
        return Err(StoreError::corrupt("state of the database"));
    };
    let accounts = accounts
        .iter()
        .map(|row| accounts::read(row).map(|account| (account.id, account)));
    Ok((state.try_get(0)?, accounts.collect::<Result<_, _>>()?))
}

/// Writes and commits a group that was judged by what is known, where the database is still in the state of that name; says
/// whether it was.
async fn commit_at_once(
    connection: &mut SqliteConnection,
    group: &Group<'_>,
    data_version: i64,
) -> Result<bool, StoreError> {
    let changed = group.changed();
    let statements = Statements::of(group.waiting.len().max(changed.len()))?;
    let query = records(
        sqlx::query(statements.at_once.as_str()),
        statements.size,
        &group.waiting,
    )?
    .bind(data_version);
    let query = written(query, statements.size, &changed)?.bind(data_version);
    let answered = query.fetch_all(connection).await?;
    let written: i64 = match answered.first() {
        Some(row) => row.try_get(0)?,
        None => 0,
    };
    Ok(usize::try_from(written).is_ok_and(|written| written == changed.len()))
}

/// Writes what is left to be written and commits.
async fn commit(connection: &mut SqliteConnection, group: &Group<'_>) -> Result<(), StoreError> {
    let changed = group.changed();
    let statements = Statements::of(group.waiting.len().max(changed.len()))?;
    let query = records(
        sqlx::query(statements.commit.as_str()),
        statements.size,
        &group.waiting,
    )?;
    written(query, statements.size, &changed)?
        .execute(connection)
        .await?;
    Ok(())
}

/// Binds so many rows of records, the last of them empty.
fn records<'q>(query: Query<'q>, size: usize, records: &[&Append]) -> Result<Query<'q>, StoreError> {
    let query = records
        .iter()
        .try_fold(query, |query, append| bind(query, append))?;
    Ok(nulls(query, size.saturating_sub(records.len()) * COLUMNS.len()))
}

/// Binds so many rows of accounts, the last of them empty.
fn written<'q>(query: Query<'q>, size: usize, changed: &[&Account]) -> Result<Query<'q>, StoreError> {
    let query = changed
        .iter()
        .try_fold(query, |query, account| accounts::bind(query, account))?;
    Ok(accounts::bind_none(query, size.saturating_sub(changed.len())))
}

impl Log for Logs<'_> {
    async fn write(&mut self, waiting: &[&Append]) -> Result<(), StoreError> {
        let statements = Statements::of(waiting.len())?;
        records(sqlx::query(statements.insert.as_str()), statements.size, waiting)?
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

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{AssertSqlSafe, Connection as _};

    #[tokio::test]
    async fn no_statement_of_a_group_goes_through_all_accounts_or_records() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        crate::store::sqlite::MIGRATIONS
            .run(&mut connection)
            .await
            .unwrap();
        for statements in STATEMENTS.iter() {
            let all = format!(
                "{}; {}; {}",
                statements.begin, statements.commit, statements.at_once
            );
            for statement in all.split("; ") {
                let plan = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
                for step in sqlx::query(plan).fetch_all(&mut connection).await.unwrap() {
                    let step: String = step.get("detail");
                    let scans = ["SCAN accounts", "SCAN records"]
                        .iter()
                        .any(|scan| step.contains(scan));
                    assert!(!scans, "{step}: {} appends, {statement}", statements.size);
                }
            }
        }
    }
}
