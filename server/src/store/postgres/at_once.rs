//! Appends whose accounts are known, judged before the database is asked: one statement writes the records and the accounts
//! that are still as they were seen, and leaves alone what belongs to others.

use super::{
    known::{Known, Seen},
    literal,
    transactions::Kept,
};
use crate::store::{
    Account, AccountId, Append, Terms,
    group::{Group, Outcome},
};
use backstop_protocol::clock::UnixMillis;
use sqlx::{Row as _, postgres::PgRow};
use std::collections::HashSet;

/// Records of more bytes are bound, not written out: what is written out is twice as long.
const BYTES_MAX: usize = 1 << 20;

/// An account as it was seen, and as it is to be.
pub(super) struct Change<'a> {
    pub(super) seen: &'a Seen,
    pub(super) new: &'a Account,
}

/// Judges the group by what is known of its accounts, and writes what is good. `None` for each append whose account was not
/// written, and `None` altogether where what is known does not suffice: those are to be judged by what the database
/// has. So is a group that failed, of which nobody knows whether it is written (I4).
pub(super) async fn group(
    connection: &mut Kept,
    appends: &[Append],
    terms: &Terms,
    known: &mut Known,
) -> Option<Vec<Option<Outcome>>> {
    let mut group = ahead(appends, terms, known)?;
    let accounts = group.changed();
    let changes: Vec<_> = accounts
        .iter()
        .filter_map(|new| {
            let seen = known.get(new.id)?;
            Some(Change { seen, new })
        })
        .collect();
    let statement = statement(&changes, &group.waiting, connection.synchronous_commit())?;
    let written = connection.at_once(statement).await;
    let outcomes = group.outcomes();
    let mut accounts = group.into_accounts();
    known.forget(appends);
    let Written {
        version,
        accounts: ids,
    } = read(&written?).ok()?;
    known.left(ids.iter().filter_map(|id| {
        let account = accounts.remove(id)?;
        Some(Seen { account, version })
    }));
    let of_written = |(append, outcome): (&Append, Outcome)| ids.contains(&append.account).then_some(outcome);
    Some(appends.iter().zip(outcomes).map(of_written).collect())
}

/// The group judged by what is known of its accounts; `None` where that does not suffice, and where nothing is to be written.
fn ahead<'a>(appends: &'a [Append], terms: &'a Terms, known: &Known) -> Option<Group<'a>> {
    let mut group = Group::new(known.of(appends)?, terms);
    let judged = appends.iter().all(|append| group.judge_alone(append));
    let bytes: usize = group.waiting.iter().map(|append| append.sealed.len()).sum();
    (judged && bytes > 0 && bytes <= BYTES_MAX).then_some(group)
}

impl Change<'_> {
    fn numbers(&self) -> Option<[Option<u64>; 13]> {
        let Self { seen, new } = self;
        let millis = |at: Option<UnixMillis>| at.map(|at| at.0);
        Some([
            Some(u64::try_from(new.id.0).ok()?),
            Some(u64::try_from(seen.version).ok()?),
            Some(new.epoch()),
            millis(new.seat.map(|seat| seat.seen_at)),
            Some(new.head.epoch),
            Some(new.head.seq),
            millis(new.head_received_at),
            Some(new.first_seq),
            Some(new.log_bytes),
            Some(new.tail.bytes),
            Some(new.tail.records),
            millis(new.tail.since),
            Some(new.rhythm_ms),
        ])
    }

    fn identities(&self) -> Option<[&[u8]; 4]> {
        let Self { seen, new } = self;
        Some([
            &seen.account.head.hash.0,
            &new.timeline.as_ref()?.0,
            &new.head.hash.0,
            &new.before_head.0,
        ])
    }
}

/// What writes them: a call of the function of migration 10, which says what its arguments are. All of it is numbers and hexadecimal
/// digits of ours: as values beside the statement they would take a way to the database more. By itself in its message, the statement is
/// the transaction. `None` where an account has no log yet, or a number is none that it could be: no account is written without its records.
pub(super) fn statement(
    changes: &[Change<'_>],
    records: &[&Append],
    synchronous_commit: &'static str,
) -> Option<String> {
    let numbers: Option<Vec<_>> = changes.iter().map(Change::numbers).collect();
    let identities: Option<Vec<_>> = changes.iter().map(Change::identities).collect();
    let mut places = Vec::with_capacity(records.len());
    let mut begin = 0;
    for append in records {
        let len = append.sealed.len();
        places.push([
            Some(u64::try_from(append.account.0).ok()?),
            Some(append.header.seq),
            Some(append.header.epoch),
            Some(append.now.0),
            Some(u64::try_from(begin).ok()?),
            Some(u64::try_from(len).ok()?),
        ]);
        begin += append.hash.0.len() + len;
    }
    let sealed = records
        .iter()
        .flat_map(|append| [&append.hash.0[..], &append.sealed]);
    let mut sql = String::with_capacity(2 * begin + 512 * (1 + changes.len()));
    sql.push_str("SELECT append_known(");
    literal::numbers(&mut sql, numbers?.into_iter());
    literal::bytes(&mut sql, identities?.into_iter().flatten());
    literal::numbers(&mut sql, places.into_iter());
    literal::bytes(&mut sql, sealed);
    literal::word(&mut sql, synchronous_commit);
    sql.push(')');
    Some(sql)
}

/// What the call wrote.
#[derive(Default)]
pub(super) struct Written {
    /// Of all of them, now.
    pub(super) version: i64,
    pub(super) accounts: HashSet<AccountId>,
}

/// What the call answers.
pub(super) fn read(rows: &[PgRow]) -> Result<Written, sqlx::Error> {
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let written: Option<Vec<i64>> = row.try_get(0)?;
    let written = written.unwrap_or_default();
    let Some((version, accounts)) = written.split_first() else {
        return Ok(Written::default());
    };
    Ok(Written {
        version: *version,
        accounts: accounts.iter().copied().map(AccountId).collect(),
    })
}
