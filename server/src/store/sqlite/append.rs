//! Appending to logs, a group in one transaction.

use super::{
    accounts,
    cells::{int, number},
    tail,
};
use crate::store::{Account, AccountId, Append, Refusal, RollUpPolicy, StoreError};
use backstop_protocol::{api::Appended, id::RecordHash, record::Placement};
use sqlx::SqliteConnection;
use std::collections::{HashMap, hash_map::Entry};

/// What becomes of one append of a group: success, or a refusal that concerns it alone.
pub(super) type Outcome = Result<Appended, Refusal>;

/// The accounts of a group, each read once and written once; `None` where there is no such account.
#[derive(Default)]
struct Accounts {
    known: HashMap<AccountId, Option<Account>>,
    changed: Vec<AccountId>,
}

/// Judges each append against the account as the ones before it in the group left it, and writes what is good. An
/// error of the database is the whole group's; refusals are each append's own, and wrote nothing.
pub(super) async fn group(
    connection: &mut SqliteConnection,
    appends: &[Box<Append>],
    policy: &RollUpPolicy,
) -> Result<Vec<Outcome>, StoreError> {
    let mut accounts = Accounts::default();
    let mut outcomes = Vec::with_capacity(appends.len());
    for append in appends {
        outcomes.push(one(connection, &mut accounts, append).await?);
    }
    for account in accounts
        .changed
        .iter()
        .filter_map(|id| accounts.known.get(id)?.as_ref())
    {
        accounts::write(connection, account).await?;
    }
    let answer = |append: &Append| {
        let account = accounts.known.get(&append.account)?.as_ref()?;
        Some(account.appended(policy, append.now))
    };
    // Every success answers with the head as the transaction leaves it.
    let with_heads = appends
        .iter()
        .zip(outcomes)
        .map(|(append, outcome)| outcome.and_then(|()| answer(append).ok_or(Refusal::NotFound)));
    Ok(with_heads.collect())
}

async fn one(
    connection: &mut SqliteConnection,
    accounts: &mut Accounts,
    append: &Append,
) -> Result<Result<(), Refusal>, StoreError> {
    let known = match accounts.known.entry(append.account) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(match accounts::load(connection, append.account).await {
            Ok(account) => Some(account),
            Err(StoreError::Refused(Refusal::NotFound)) => None,
            Err(error) => return Err(error),
        }),
    };
    let Some(account) = known else {
        return Ok(Err(Refusal::NotFound));
    };
    let replaced = match account.place(append) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(Placement::Same) => return Ok(Ok(())),
        Ok(Placement::Refused) => {
            let held = holds(connection, append).await?;
            return Ok(if held { Ok(()) } else { Err(account.not_next()) });
        }
        Ok(Placement::Next) => 0,
        Ok(Placement::Replaces) => set_aside(connection, account, append).await?,
    };
    sqlx::query("INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(append.account.0)
        .bind(int(append.header.seq)?)
        .bind(int(append.header.epoch)?)
        .bind(append.hash.0.as_slice())
        .bind(int(append.now.0)?)
        .bind(i64::try_from(append.sealed.len()).map_err(|_| StoreError::corrupt("length"))?)
        .bind(append.sealed.as_ref())
        .execute(connection)
        .await?;
    account.advance(append, replaced);
    if !accounts.changed.contains(&append.account) {
        accounts.changed.push(append.account);
    }
    Ok(Ok(()))
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
