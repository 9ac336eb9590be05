//! Appending to logs, a group in one transaction: its accounts are locked and read by one statement, its records and
//! accounts written by two, however large it is.

use super::{
    accounts,
    cells::{self, Query, account as read, int, length, query},
    known::Seen,
    tail,
};
use crate::store::{
    Account, AccountId, Append, StoreError, Terms,
    group::{Group, Log, Outcome},
};
use sqlx::PgConnection;
use std::collections::HashMap;

/// Appends that commit together, and what a roll-up is decided by.
pub(super) struct Request {
    pub(super) appends: Vec<Append>,
    pub(super) terms: Terms,
    /// Whether to wait where another transaction has an account; else its appends are left for later.
    pub(super) waits: bool,
}

/// What became of a group.
pub(super) struct Done {
    /// `None` for an append whose account is not there, or at work in another transaction.
    pub(super) outcomes: Vec<Option<Outcome>>,
    /// The accounts that were written, once it is committed.
    pub(super) seen: Vec<Seen>,
}

/// Judges each append and writes what is good. An error of the database is the whole group's; refusals are each append's
/// own, and wrote nothing.
pub(super) async fn group(connection: &mut PgConnection, request: &Request) -> Result<Done, StoreError> {
    let mut group = Group::new(lock(connection, request).await?, &request.terms);
    let mut logs = Logs(connection);
    let here: Vec<bool> = request
        .appends
        .iter()
        .map(|append| request.waits || group.accounts.contains_key(&append.account))
        .collect();
    for (append, _) in request.appends.iter().zip(&here).filter(|(_, here)| **here) {
        group.judge(&mut logs, append).await?;
    }
    if !group.waiting.is_empty() {
        logs.write(&group.waiting).await?;
    }
    let changed = group.changed();
    let versions = if changed.is_empty() {
        Vec::new()
    } else {
        accounts::write(connection, &changed).await?
    };
    let mut outcomes = group.outcomes().into_iter();
    let mut accounts = group.into_accounts();
    let seen = versions.into_iter().filter_map(|(id, version)| {
        let account = accounts.remove(&id)?;
        Some(Seen { account, version })
    });
    Ok(Done {
        seen: seen.collect(),
        outcomes: here
            .into_iter()
            .map(|here| here.then(|| outcomes.next()).flatten())
            .collect(),
    })
}

/// The group's accounts, each locked until the end. A group waits for no lock: one account that is busy elsewhere, as
/// while a large snapshot is committed, holds up its own appends and no others'.
async fn lock(
    connection: &mut PgConnection,
    request: &Request,
) -> Result<HashMap<AccountId, Account>, StoreError> {
    let ids: Vec<i64> = request.appends.iter().map(|append| append.account.0).collect();
    let statement = if request.waits {
        "SELECT * FROM accounts WHERE account = ANY($1) ORDER BY account FOR UPDATE"
    } else {
        "SELECT * FROM accounts WHERE account = ANY($1) ORDER BY account FOR UPDATE SKIP LOCKED"
    };
    let found = query(statement).bind(ids).fetch_all(connection).await?;
    found
        .iter()
        .map(|row| read(row).map(|account| (account.id, account)))
        .collect()
}

/// Binds records, column by column.
pub(super) fn bind_records<'q>(query: Query<'q>, records: &[&Append]) -> Result<Query<'q>, StoreError> {
    let numbers = |of: &dyn Fn(&Append) -> u64| -> Result<Vec<i64>, StoreError> {
        records.iter().map(|append| int(of(append))).collect()
    };
    let accounts: Vec<i64> = records.iter().map(|append| append.account.0).collect();
    let hashes: Vec<&[u8]> = records.iter().map(|append| append.hash.0.as_slice()).collect();
    let lengths = records.iter().map(|append| length(&append.sealed));
    let sealed: Vec<&[u8]> = records.iter().map(|append| &*append.sealed).collect();
    Ok(query
        .bind(accounts)
        .bind(numbers(&|append| append.header.seq)?)
        .bind(numbers(&|append| append.header.epoch)?)
        .bind(hashes)
        .bind(numbers(&|append| append.now.0)?)
        .bind(lengths.collect::<Result<Vec<_>, _>>()?)
        .bind(sealed))
}

/// The logs, on the connection whose transaction it is.
struct Logs<'c>(&'c mut PgConnection);

impl Log for Logs<'_> {
    async fn write(&mut self, records: &[&Append]) -> Result<(), StoreError> {
        let insert = query(
            "INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[],
                $7::bytea[])",
        );
        bind_records(insert, records)?.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn holds(&mut self, append: &Append) -> Result<bool, StoreError> {
        let found = query("SELECT 1 FROM records WHERE account = $1 AND seq = $2 AND hash = $3")
            .bind(append.account.0)
            .bind(int(append.header.seq)?)
            .bind(append.hash.0.as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        Ok(found.is_some())
    }

    async fn holds_before(&mut self, append: &Append) -> Result<bool, StoreError> {
        let found = query("SELECT 1 FROM records WHERE account = $1 AND seq = $2 - 1 AND hash = $3")
            .bind(append.account.0)
            .bind(int(append.header.seq)?)
            .bind(append.header.prev.0.as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        Ok(found.is_some())
    }

    async fn set_aside(&mut self, account: &mut Account, append: &Append) -> Result<u64, StoreError> {
        let (seq, now) = (int(append.header.seq)?, int(append.now.0)?);
        let gone = query(
            "WITH gone AS (DELETE FROM records WHERE account = $1 AND seq >= $2 RETURNING *)
             INSERT INTO replaced_records
                (account, seq, epoch, hash, received_at, replaced_at, replaced_by, bytes, sealed)
             SELECT account, seq, epoch, hash, received_at, $3, $4, bytes, sealed FROM gone RETURNING hash, bytes",
        )
        .bind(append.account.0)
        .bind(seq)
        .bind(now)
        // The session's: the record's own may be lower than that of a branch that never counted.
        .bind(int(append.writer.epoch)?)
        .fetch_all(&mut *self.0)
        .await?;
        let gone = gone.iter().map(cells::gone).collect::<Result<Vec<_>, _>>()?;
        let bytes = cells::set_aside(&gone, account.head.hash)?;
        let off_chain = query(
            "UPDATE snapshots SET off_chain_at = $1 WHERE account = $2 AND base_seq >= $3 AND off_chain_at IS NULL",
        )
        .bind(now)
        .bind(append.account.0)
        .bind(seq)
        .execute(&mut *self.0)
        .await?;
        if off_chain.rows_affected() == 0 && gone.len() == 1 {
            account.tail.take_back(bytes);
        } else {
            // The tail reaches down to another snapshot now, or lost more than its end.
            account.tail = tail::measure(self.0, account).await?;
        }
        Ok(bytes)
    }
}
