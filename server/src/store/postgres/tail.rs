//! The log above the newest snapshot, counted anew: after a commit, and where a snapshot left the chain.

use super::cells::{int, millis, number, query, time};
use crate::store::{Account, StoreError, Tail};
use sqlx::PgConnection;

/// What a roll-up is decided by, from the rows themselves. An order stays as it is.
pub(super) async fn measure(connection: &mut PgConnection, account: &Account) -> Result<Tail, StoreError> {
    let newest = super::snapshots::newest(connection, account.id).await?;
    let (base, snapshot_bytes) = newest.map_or((0, 0), |newest| (newest.base_seq, newest.bytes));
    let row = query(
        "SELECT coalesce(sum(bytes), 0)::bigint AS bytes, count(*) AS records, min(received_at) AS since
         FROM records WHERE account = $1 AND seq > $2",
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
pub(super) async fn rolled_up(connection: &mut PgConnection, account: &Account) -> Result<(), StoreError> {
    let tail = &account.tail;
    query(
        "UPDATE accounts SET tail_bytes = $1, tail_records = $2, tail_since = $3, snapshot_bytes = $4,
            roll_up_ordered_at = NULL
         WHERE account = $5",
    )
    .bind(int(tail.bytes)?)
    .bind(int(tail.records)?)
    .bind(millis(tail.since)?)
    .bind(int(tail.snapshot_bytes)?)
    .bind(account.id.0)
    .execute(connection)
    .await?;
    Ok(())
}
