//! Appending to logs, a group in one transaction.
//!
//! A group takes two calls of the database however large it is: one reads its accounts, one writes its records and
//! its accounts and commits. Each call costs two changes of the thread, which is more than most of the work in it.

use super::{
    accounts,
    cells::{Query, int, nulls, number, rows},
    tail,
};
use crate::store::{Account, AccountId, Append, Refusal, RollUpPolicy, StoreError};
use backstop_protocol::{api::Appended, id::RecordHash, record::Placement};
use sqlx::SqliteConnection;
use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

/// Most appends that commit together.
pub(super) const GROUP_MAX: usize = 512;

/// What becomes of one append of a group: success, or a refusal that concerns it alone.
pub(super) type Outcome = Result<Appended, Refusal>;

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

/// A group under way.
struct Group<'a> {
    connection: &'a mut SqliteConnection,
    /// Each read once and written once.
    accounts: HashMap<AccountId, Account>,
    changed: HashSet<AccountId>,
    /// Records that were found good and are not written yet.
    waiting: Vec<&'a Append>,
}

/// Judges each append against the account as the ones before it in the group left it, writes what is good, and
/// commits. An error of the database is the whole group's, and leaves the transaction to the caller; refusals are
/// each append's own, and wrote nothing. At most [`GROUP_MAX`] appends.
pub(super) async fn group(
    connection: &mut SqliteConnection,
    appends: &[Box<Append>],
    policy: &RollUpPolicy,
) -> Result<Vec<Outcome>, StoreError> {
    let mut group = Group {
        accounts: begin(connection, appends).await?,
        connection,
        changed: HashSet::new(),
        waiting: Vec::with_capacity(appends.len()),
    };
    let mut outcomes = Vec::with_capacity(appends.len());
    for append in appends {
        outcomes.push(group.judge(append).await?);
    }
    let accounts = group.commit().await?;
    // Every success answers with the head as the transaction left it.
    let with_heads = appends.iter().zip(outcomes).map(|(append, outcome)| {
        outcome.and_then(|()| {
            let account = accounts.get(&append.account).ok_or(Refusal::NotFound)?;
            Ok(account.appended(policy, append.now))
        })
    });
    Ok(with_heads.collect())
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

impl<'a> Group<'a> {
    async fn judge(&mut self, append: &'a Append) -> Result<Result<(), Refusal>, StoreError> {
        let Some(account) = self.accounts.get_mut(&append.account) else {
            return Ok(Err(Refusal::NotFound));
        };
        let placement = match account.place(append) {
            Ok(placement) => placement,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let replaced = match placement {
            Placement::Same => return Ok(Ok(())),
            Placement::Next => 0,
            Placement::Refused => {
                write_waiting(self.connection, &mut self.waiting).await?;
                let held = holds(self.connection, append).await?;
                return Ok(if held { Ok(()) } else { Err(account.not_next()) });
            }
            Placement::Replaces => {
                write_waiting(self.connection, &mut self.waiting).await?;
                set_aside(self.connection, account, append).await?
            }
        };
        account.advance(append, replaced);
        self.waiting.push(append);
        self.changed.insert(append.account);
        Ok(Ok(()))
    }

    /// Writes what is left to be written and commits; returns the accounts as they are then.
    async fn commit(self) -> Result<HashMap<AccountId, Account>, StoreError> {
        let statements = Statements::of(self.waiting.len().max(self.changed.len()))?;
        let mut query = sqlx::query(statements.commit.as_str());
        for append in &self.waiting {
            query = bind(query, append)?;
        }
        query = nulls(query, (statements.size - self.waiting.len()) * COLUMNS.len());
        for account in self.changed.iter().filter_map(|id| self.accounts.get(id)) {
            query = accounts::bind(query, account)?;
        }
        query = accounts::bind_none(query, statements.size - self.changed.len());
        query.execute(self.connection).await?;
        Ok(self.accounts)
    }
}

/// Makes the log in the database the one against which the next append is judged.
async fn write_waiting(
    connection: &mut SqliteConnection,
    waiting: &mut Vec<&Append>,
) -> Result<(), StoreError> {
    if waiting.is_empty() {
        return Ok(());
    }
    let mut query = sqlx::query(Statements::of(waiting.len())?.insert.as_str());
    for append in waiting.drain(..) {
        query = bind(query, append)?;
    }
    query.execute(connection).await?;
    Ok(())
}

/// Binds one record.
fn bind<'q>(query: Query<'q>, append: &Append) -> Result<Query<'q>, StoreError> {
    Ok(query
        .bind(append.account.0)
        .bind(int(append.header.seq)?)
        .bind(int(append.header.epoch)?)
        .bind(append.hash.0.to_vec())
        .bind(int(append.now.0)?)
        .bind(i64::try_from(append.sealed.len()).map_err(|_| StoreError::corrupt("length"))?)
        .bind(append.sealed.to_vec()))
}

/// Whether the log holds these very bytes at their seq (I4).
async fn holds(connection: &mut SqliteConnection, append: &Append) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM records WHERE account = ? AND seq = ? AND hash = ?")
        .bind(append.account.0)
        .bind(int(append.header.seq)?)
        .bind(append.hash.0.as_slice())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

/// Moves the head aside (I3); returns its length. A snapshot that rests on it is on no chain any more.
async fn set_aside(
    connection: &mut SqliteConnection,
    account: &mut Account,
    append: &Append,
) -> Result<u64, StoreError> {
    let old: RecordHash = account.head.hash;
    let seq = int(append.header.seq)?;
    let now = int(append.now.0)?;
    sqlx::query(
        "INSERT INTO replaced_records (account, seq, epoch, hash, received_at, replaced_at, replaced_by, bytes, sealed)
         SELECT account, seq, epoch, hash, received_at, ?, ?, bytes, sealed FROM records WHERE account = ? AND seq = ?",
    )
    .bind(now)
    .bind(int(append.header.epoch)?)
    .bind(append.account.0)
    .bind(seq)
    .execute(&mut *connection)
    .await?;
    let gone = sqlx::query("DELETE FROM records WHERE account = ? AND seq = ? AND hash = ? RETURNING bytes")
        .bind(append.account.0)
        .bind(seq)
        .bind(old.0.as_slice())
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(|| StoreError::corrupt("head"))?;
    let bytes = number(&gone, "bytes")?;
    let off_chain = sqlx::query(
        "UPDATE snapshots SET off_chain_at = ? WHERE account = ? AND base_seq = ? AND base_hash = ?",
    )
    .bind(now)
    .bind(append.account.0)
    .bind(seq)
    .bind(old.0.as_slice())
    .execute(&mut *connection)
    .await?;
    if off_chain.rows_affected() == 0 {
        account.tail.take_back(bytes);
    } else {
        // The tail reaches down to another snapshot now.
        account.tail = tail::measure(connection, account).await?;
    }
    Ok(bytes)
}
