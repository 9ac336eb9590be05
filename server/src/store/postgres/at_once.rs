//! Appends whose accounts are known, judged before the database is asked: one statement writes the records and the accounts
//! that are still as they were seen, and leaves alone what belongs to others.

use super::{
    known::{Known, Seen},
    literal::{blobs, numbers, times},
    transactions::Kept,
};
use crate::store::{
    Account, AccountId, Append, Terms,
    group::{Group, Outcome},
};
use sqlx::{Row as _, postgres::PgRow};
use std::collections::HashMap;

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
    let statement = statement(&changes, &group.waiting);
    let written = connection.at_once(&statement).await;
    let outcomes = group.outcomes();
    let mut accounts = group.into_accounts();
    known.forget(appends);
    let written = read(&written?).ok()?;
    known.left(written.iter().filter_map(|(id, version)| {
        Some(Seen {
            account: accounts.remove(id)?,
            version: *version,
        })
    }));
    let of_written =
        |(append, outcome): (&Append, Outcome)| written.contains_key(&append.account).then_some(outcome);
    Some(appends.iter().zip(outcomes).map(of_written).collect())
}

/// The group judged by what is known of its accounts; `None` where that does not suffice, and where nothing is to be written.
fn ahead<'a>(appends: &'a [Append], terms: &'a Terms, known: &Known) -> Option<Group<'a>> {
    let mut group = Group::new(known.of(appends)?, terms);
    let judged = appends.iter().all(|append| group.judge_alone(append));
    let bytes: usize = group.waiting.iter().map(|append| append.sealed.len()).sum();
    (judged && bytes > 0 && bytes <= BYTES_MAX).then_some(group)
}

/// What writes them: a call of the function of migration 10, whose arrays these are. All of it is numbers and hexadecimal digits
/// of ours: as values beside the statement they would take a way to the database more, and its beginning and end two.
pub(super) fn statement(changes: &[Change<'_>], records: &[&Append]) -> String {
    let bytes: usize = records.iter().map(|append| append.sealed.len()).sum();
    let mut sql = String::with_capacity(2 * bytes + 1024 * (1 + records.len()));
    sql.push_str("SELECT written, version FROM append_known(");
    let new = || changes.iter().map(|change| change.new);
    numbers(&mut sql, new().map(|account| account.id.0));
    numbers(&mut sql, changes.iter().map(|change| change.seen.version));
    numbers(&mut sql, new().map(Account::epoch));
    blobs(
        &mut sql,
        changes
            .iter()
            .map(|change| Some(&change.seen.account.head.hash.0)),
    );
    times(
        &mut sql,
        new().map(|account| account.seat.map(|seat| seat.seen_at)),
    );
    blobs(
        &mut sql,
        new().map(|account| account.timeline.as_ref().map(|id| &id.0)),
    );
    numbers(&mut sql, new().map(|account| account.head.epoch));
    numbers(&mut sql, new().map(|account| account.head.seq));
    blobs(&mut sql, new().map(|account| Some(&account.head.hash.0)));
    blobs(&mut sql, new().map(|account| Some(&account.before_head.0)));
    times(&mut sql, new().map(|account| account.head_received_at));
    numbers(&mut sql, new().map(|account| account.first_seq));
    numbers(&mut sql, new().map(|account| account.log_bytes));
    numbers(&mut sql, new().map(|account| account.tail.bytes));
    numbers(&mut sql, new().map(|account| account.tail.records));
    times(&mut sql, new().map(|account| account.tail.since));
    numbers(&mut sql, new().map(|account| account.rhythm_ms));
    let records = || records.iter();
    numbers(&mut sql, records().map(|append| append.account.0));
    numbers(&mut sql, records().map(|append| append.header.seq));
    numbers(&mut sql, records().map(|append| append.header.epoch));
    blobs(&mut sql, records().map(|append| Some(&append.hash.0)));
    numbers(&mut sql, records().map(|append| append.now.0));
    numbers(&mut sql, records().map(|append| append.sealed.len()));
    blobs(&mut sql, records().map(|append| Some(&append.sealed)));
    sql.pop();
    sql.push(')');
    sql
}

/// Which accounts were written, and their new versions.
pub(super) fn read(rows: &[PgRow]) -> Result<HashMap<AccountId, i64>, sqlx::Error> {
    rows.iter()
        .map(|row| Ok((AccountId(row.try_get("written")?), row.try_get("version")?)))
        .collect()
}
