//! The log above the newest snapshot, counted anew: after a commit, and where a snapshot left the chain.

use super::cells::{Cells, int, number, time};
use crate::store::{Account, StoreError, Tail};
use rusqlite::Connection;
use sqlx::SqliteConnection;

/// The snapshot that the tail lies above.
pub(super) const NEWEST: &str = "SELECT base_seq, bytes FROM snapshots
     WHERE account = ? AND off_chain_at IS NULL AND dropped_at IS NULL ORDER BY base_seq DESC, snapshot DESC LIMIT 1";
/// The records above it.
pub(super) const ABOVE: &str =
    "SELECT coalesce(sum(bytes), 0) AS bytes, count(*) AS records, min(received_at) AS since
     FROM records WHERE account = ? AND seq > ?";

/// What a roll-up is decided by, from the rows themselves. An order stays as it is.
pub(super) async fn measure(
    connection: &mut SqliteConnection,
    account: &Account,
) -> Result<Tail, StoreError> {
    let newest = sqlx::query(NEWEST)
        .bind(account.id.0)
        .fetch_optional(&mut *connection)
        .await?;
    let base = newest.as_ref().map(base).transpose()?.unwrap_or_default();
    let row = sqlx::query(ABOVE)
        .bind(account.id.0)
        .bind(int(base.0)?)
        .fetch_one(connection)
        .await?;
    above(&row, base, account)
}

/// The same on the connection that appends.
pub(super) fn measure_here(connection: &Connection, account: &Account) -> Result<Tail, StoreError> {
    let mut newest = connection.prepare_cached(NEWEST)?;
    let mut newest = newest.query([account.id.0])?;
    let base = newest.next()?.map(base).transpose()?.unwrap_or_default();
    let mut rows = connection.prepare_cached(ABOVE)?;
    let mut rows = rows.query([account.id.0, int(base.0)?])?;
    let row = rows.next()?.ok_or_else(|| StoreError::corrupt("records"))?;
    above(row, base, account)
}

/// The base of a snapshot and its length, bytes.
fn base(row: &impl Cells) -> Result<(u64, u64), StoreError> {
    Ok((number(row, "base_seq")?, number(row, "bytes")?))
}

fn above(row: &impl Cells, (_, snapshot_bytes): (u64, u64), account: &Account) -> Result<Tail, StoreError> {
    Ok(Tail {
        bytes: number(row, "bytes")?,
        records: number(row, "records")?,
        since: time(row, "since")?,
        snapshot_bytes,
        ordered: account.tail.ordered,
    })
}

/// Writes the tail as a commit leaves it; what was ordered by hand has come.
pub(super) async fn rolled_up(
    connection: &mut SqliteConnection,
    account: &Account,
) -> Result<(), StoreError> {
    let tail = &account.tail;
    sqlx::query(
        "UPDATE accounts SET tail_bytes = ?, tail_records = ?, tail_since = ?, snapshot_bytes = ?,
            roll_up_ordered_at = NULL
         WHERE account = ?",
    )
    .bind(int(tail.bytes)?)
    .bind(int(tail.records)?)
    .bind(tail.since.map(|since| int(since.0)).transpose()?)
    .bind(int(tail.snapshot_bytes)?)
    .bind(account.id.0)
    .execute(connection)
    .await?;
    Ok(())
}
