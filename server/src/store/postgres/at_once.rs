//! Appends whose accounts are known, judged before the database is asked: one call writes the records and the accounts that
//! are still as they were seen, and leaves alone what belongs to others.

use super::{
    append::bind_records,
    cells::{Query, int, millis, query},
    known::{Known, Seen},
    transactions::Kept,
};
use crate::store::{
    Account, AccountId, Append, StoreError, Terms,
    group::{Group, Outcome},
};
use backstop_protocol::{clock::UnixMillis, id::RecordHash};
use sqlx::{PgConnection, Row as _};
use std::collections::HashMap;

/// The arrays are those of [`bind`] and of [`bind_records`].
const APPEND: &str =
    "SELECT written, version FROM append_known($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
    $15, $16, $17, $18, $19, $20, $21, $22, $23, $24)";

/// An account as it was seen, and as it is to be.
pub(super) struct Change<'a> {
    pub(super) seen: &'a Seen,
    pub(super) new: &'a Account,
}

/// Judges the group by what is known of its accounts, and writes what is good. `None` for each append whose account was not
/// written, and `None` altogether where what is known does not suffice: those are to be judged by what the database
/// has. So is a group that failed, of which nothing is written.
pub(super) async fn group(
    connection: &mut Kept,
    appends: &[Append],
    terms: &Terms,
    known: &mut Known,
) -> Option<Vec<Option<Outcome>>> {
    let mut group = ahead(appends, terms, known)?;
    let changed = group.changed();
    let changed: Vec<_> = changed
        .iter()
        .filter_map(|new| {
            let seen = known.get(new.id)?;
            Some(Change { seen, new })
        })
        .collect();
    let written = connection
        .try_once(&(changed, &group.waiting), |connection, (accounts, records)| {
            Box::pin(write(connection, accounts, records))
        })
        .await;
    let outcomes = group.outcomes();
    let mut accounts = group.into_accounts();
    known.forget(appends);
    let written = written?;
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
    (judged && !group.waiting.is_empty()).then_some(group)
}

/// Which accounts were written, and their new versions.
pub(super) async fn write(
    connection: &mut PgConnection,
    accounts: &[Change<'_>],
    records: &[&Append],
) -> Result<HashMap<AccountId, i64>, StoreError> {
    let query = bind(query(APPEND), accounts)?;
    let rows = bind_records(query, records)?.fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((AccountId(row.try_get("written")?), row.try_get("version")?)))
        .collect()
}

/// Binds the accounts, column by column.
fn bind<'q>(query: Query<'q>, accounts: &[Change<'_>]) -> Result<Query<'q>, StoreError> {
    let numbers = |of: &dyn Fn(&Account) -> u64| -> Result<Vec<i64>, StoreError> {
        accounts.iter().map(|change| int(of(change.new))).collect()
    };
    let times = |of: &dyn Fn(&Account) -> Option<UnixMillis>| -> Result<Vec<Option<i64>>, StoreError> {
        accounts.iter().map(|change| millis(of(change.new))).collect()
    };
    let hashes = |of: &dyn for<'a> Fn(&'a Change<'_>) -> &'a RecordHash| -> Vec<&[u8]> {
        accounts.iter().map(|change| of(change).0.as_slice()).collect()
    };
    let ids: Vec<i64> = accounts.iter().map(|change| change.new.id.0).collect();
    let versions: Vec<i64> = accounts.iter().map(|change| change.seen.version).collect();
    let timelines = accounts.iter().map(|change| change.new.timeline.as_ref());
    let timelines: Vec<Option<&[u8]>> = timelines.map(|id| id.map(|id| id.0.as_slice())).collect();
    Ok(query
        .bind(ids)
        .bind(versions)
        .bind(numbers(&Account::epoch)?)
        .bind(hashes(&|change| &change.seen.account.head.hash))
        .bind(times(&|of| of.seat.map(|seat| seat.seen_at))?)
        .bind(timelines)
        .bind(numbers(&|of| of.head.epoch)?)
        .bind(numbers(&|of| of.head.seq)?)
        .bind(hashes(&|change| &change.new.head.hash))
        .bind(hashes(&|change| &change.new.before_head))
        .bind(times(&|of| of.head_received_at)?)
        .bind(numbers(&|of| of.first_seq)?)
        .bind(numbers(&|of| of.log_bytes)?)
        .bind(numbers(&|of| of.tail.bytes)?)
        .bind(numbers(&|of| of.tail.records)?)
        .bind(times(&|of| of.tail.since)?)
        .bind(numbers(&|of| of.rhythm_ms)?))
}
