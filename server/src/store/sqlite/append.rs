//! Appending to logs, a group in one transaction.
//!
//! Most jobs go through sqlx, whose connection lives on a thread of its own: each answer to each statement is two changes of the
//! thread, which cost more than an append. Appends, and the places of chunks, have another connection, in the writer's thread.

use super::{
    accounts,
    cells::{self, int, length},
    known::Known,
    tail,
};
pub(super) use crate::store::group::{GROUP_MAX, Outcome};
use crate::store::{
    Account, AccountId, Append, StoreError, Terms,
    group::{Group, Log},
};
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter,
};
use std::collections::{HashMap, hash_map::Entry};

/// Another number after each commit of another connection.
const DATA_VERSION: &str = "PRAGMA data_version";
const ACCOUNT: &str = "SELECT * FROM accounts WHERE account = ?";
const INSERT: &str = "INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed)
     VALUES (?, ?, ?, ?, ?, ?, ?)";
const HOLDS: &str = "SELECT 1 FROM records WHERE account = ? AND seq = ? AND hash = ?";
const SET_ASIDE: &str = "INSERT INTO replaced_records
        (account, seq, epoch, hash, received_at, replaced_at, replaced_by, bytes, sealed)
     SELECT account, seq, epoch, hash, received_at, ?, ?, bytes, sealed FROM records WHERE account = ? AND seq >= ?";
const DELETE: &str = "DELETE FROM records WHERE account = ? AND seq >= ? RETURNING hash, bytes";
const OFF_CHAIN: &str =
    "UPDATE snapshots SET off_chain_at = ? WHERE account = ? AND base_seq >= ? AND off_chain_at IS NULL";

/// The logs, on the connection whose transaction it is.
struct Logs<'c>(&'c Transaction<'c>);

/// Judges each append, writes what is good, and commits. An error of the database is the whole group's, which is rolled back, and
/// leaves connection and what is known on it to be dropped; refusals are each append's own, and wrote nothing. At most [`GROUP_MAX`] appends.
pub(super) async fn group(
    connection: &mut Connection,
    appends: &[Box<Append>],
    terms: &Terms,
    known: &mut Known,
) -> Result<Vec<Outcome>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut group = Group::new(accounts(&transaction, appends, known)?, terms);
    let mut logs = Logs(&transaction);
    for append in appends {
        group.judge(&mut logs, append).await?;
    }
    logs.write(&group.waiting).await?;
    write(&transaction, &group.changed())?;
    transaction.commit()?;
    let outcomes = group.outcomes();
    known.left(group.into_accounts());
    Ok(outcomes)
}

/// The accounts of a group: as they are known, where nobody else has committed anything since then, or as they are read.
fn accounts(
    transaction: &Transaction<'_>,
    appends: &[Box<Append>],
    known: &mut Known,
) -> Result<HashMap<AccountId, Account>, StoreError> {
    let version = transaction
        .prepare_cached(DATA_VERSION)?
        .query_one([], |row| row.get(0))?;
    known.at(version);
    let mut statement = transaction.prepare_cached(ACCOUNT)?;
    let mut accounts = HashMap::with_capacity(appends.len());
    for append in appends {
        let Entry::Vacant(place) = accounts.entry(append.account) else {
            continue;
        };
        if let Some(account) = known.of(append.account) {
            place.insert(account.clone());
        } else if let Some(row) = statement.query([append.account.0])?.next()? {
            place.insert(accounts::read(row)?);
        }
    }
    Ok(accounts)
}

/// Writes accounts that are there.
fn write(transaction: &Transaction<'_>, accounts: &[&Account]) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(&accounts::UPDATE)?;
    for account in accounts {
        statement.execute(params_from_iter(accounts::written(account)?))?;
    }
    Ok(())
}

impl Log for Logs<'_> {
    async fn write(&mut self, waiting: &[&Append]) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(INSERT)?;
        for append in waiting {
            statement.execute(params![
                append.account.0,
                int(append.header.seq)?,
                int(append.header.epoch)?,
                append.hash.0,
                int(append.now.0)?,
                length(&append.sealed)?,
                &append.sealed[..],
            ])?;
        }
        Ok(())
    }

    async fn holds(&mut self, append: &Append) -> Result<bool, StoreError> {
        self.has(append.account, append.header.seq, append.hash.0)
    }

    async fn holds_before(&mut self, append: &Append) -> Result<bool, StoreError> {
        match append.header.seq.checked_sub(1) {
            Some(seq) => self.has(append.account, seq, append.header.prev.0),
            None => Ok(false),
        }
    }

    async fn set_aside(&mut self, account: &mut Account, append: &Append) -> Result<u64, StoreError> {
        let id = append.account.0;
        let (seq, now) = (int(append.header.seq)?, int(append.now.0)?);
        // By the session's epoch: the record's own may be lower than that of a branch that never counted.
        let by = int(append.writer.epoch)?;
        self.0
            .prepare_cached(SET_ASIDE)?
            .execute(params![now, by, id, seq])?;
        let mut gone = Vec::new();
        let mut statement = self.0.prepare_cached(DELETE)?;
        let mut rows = statement.query(params![id, seq])?;
        while let Some(row) = rows.next()? {
            gone.push(cells::gone(row)?);
        }
        let bytes = cells::set_aside(&gone, account.head.hash)?;
        let off_chain = self.0.prepare_cached(OFF_CHAIN)?.execute(params![now, id, seq])?;
        if off_chain == 0 && gone.len() == 1 {
            account.tail.take_back(bytes);
        } else {
            // The tail reaches down to another snapshot now, or lost more than its end.
            account.tail = tail::measure_here(self.0, account)?;
        }
        Ok(bytes)
    }
}

impl Logs<'_> {
    fn has(&self, account: AccountId, seq: u64, hash: [u8; 32]) -> Result<bool, StoreError> {
        let mut statement = self.0.prepare_cached(HOLDS)?;
        let found = statement.query_one(params![account.0, int(seq)?, hash], |_| Ok(()));
        Ok(found.optional()?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{MIGRATIONS, settings::Settings};
    use sqlx::ConnectOptions as _;

    #[tokio::test]
    async fn no_statement_of_a_group_goes_through_a_whole_table() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::new(&dir.path().join("store"), None);
        let mut made = settings.options().connect().await.unwrap();
        MIGRATIONS.run(&mut made).await.unwrap();
        let connection = settings.connect().unwrap();
        let all = [
            ACCOUNT,
            INSERT,
            HOLDS,
            SET_ASIDE,
            DELETE,
            OFF_CHAIN,
            tail::NEWEST,
            tail::ABOVE,
            &accounts::UPDATE,
        ];
        for statement in all {
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
                .unwrap();
            for at in 1..=plan.parameter_count() {
                plan.raw_bind_parameter(at, 1).unwrap();
            }
            let mut steps = plan.raw_query();
            while let Some(step) = steps.next().unwrap() {
                let step: String = step.get("detail").unwrap();
                assert!(!step.contains("SCAN"), "{step}: {statement}");
            }
        }
    }
}
