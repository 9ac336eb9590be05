//! The log above the newest snapshot, counted anew: after a commit, and where a snapshot left the chain.

use super::cells::{int, number, time};
use crate::store::{Account, StoreError, Tail};
use sqlx::SqliteConnection;

/// What a roll-up is decided by, from the rows themselves. An order stays as it is.
pub(super) async fn measure(
    connection: &mut SqliteConnection,
    account: &Account,
) -> Result<Tail, StoreError> {
    let newest = sqlx::query(
        "SELECT base_seq, bytes FROM snapshots WHERE account = ? AND off_chain_at IS NULL AND dropped_at IS NULL
         ORDER BY base_seq DESC, snapshot DESC LIMIT 1",
    )
    .bind(account.id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let (base, snapshot_bytes) = match &newest {
        Some(row) => (number(row, "base_seq")?, number(row, "bytes")?),
        None => (0, 0),
    };
    let row = sqlx::query(
        "SELECT coalesce(sum(bytes), 0) AS bytes, count(*) AS records, min(received_at) AS since
         FROM records WHERE account = ? AND seq > ?",
    )
    .bind(account.id.0)
    .bind(int(base)?)
    .fetch_one(connection)
    .await?;
    Ok(Tail {
        bytes: number(&row, "bytes")?,
        records: number(&row, "records")?,
        since: time(&row, "since")?,
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
