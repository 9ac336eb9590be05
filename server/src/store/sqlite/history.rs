//! What goes when its time is over (I8), a little in each transaction, so that no append waits for long.

use super::{
    accounts,
    cells::{aged, int, oldest},
};
use crate::store::{Account, AccountId, Aged, HistoryPolicy, StoreError};
use backstop_protocol::clock::UnixMillis;
use sqlx::SqliteConnection;

/// Most rows that go in one transaction.
pub(super) const ROWS: u32 = 2_000;

/// One step. `true` where there may be more to do.
pub(super) async fn drop_some(
    connection: &mut SqliteConnection,
    account: AccountId,
    policy: &HistoryPolicy,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let account = accounts::load(connection, account).await?;
    if account.held_since.is_some() {
        return Ok(false);
    }
    let snapshots = present(connection, account.id).await?;
    let verdict = policy.judge(&snapshots, account.head.seq, now);
    for snapshot in &verdict.go {
        sqlx::query("UPDATE snapshots SET dropped_at = ? WHERE snapshot = ?")
            .bind(int(now.0)?)
            .bind(snapshot)
            .execute(&mut *connection)
            .await?;
    }
    Ok(drop_rows_of_snapshot(connection, account.id).await?
        || drop_records(connection, &account, verdict.records_from).await?
        || drop_replaced(connection, account.id, policy, now).await?)
}

async fn present(connection: &mut SqliteConnection, account: AccountId) -> Result<Vec<Aged>, StoreError> {
    let rows = sqlx::query(
        "SELECT snapshot, base_seq, committed_at, off_chain_at FROM snapshots
         WHERE account = ? AND dropped_at IS NULL ORDER BY base_seq DESC, snapshot DESC",
    )
    .bind(account.0)
    .fetch_all(connection)
    .await?;
    rows.iter().map(aged).collect()
}

/// Of one dropped snapshot; its own row goes last.
async fn drop_rows_of_snapshot(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<bool, StoreError> {
    let dropped: Option<i64> = sqlx::query_scalar(
        "SELECT snapshot FROM snapshots WHERE account = ? AND dropped_at IS NOT NULL LIMIT 1",
    )
    .bind(account.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(snapshot) = dropped else {
        return Ok(false);
    };
    let gone = sqlx::query(
        "DELETE FROM snapshot_chunks WHERE snapshot = ?1 AND chunk IN (
            SELECT chunk FROM snapshot_chunks WHERE snapshot = ?1 LIMIT ?2
         )",
    )
    .bind(snapshot)
    .bind(ROWS)
    .execute(&mut *connection)
    .await?;
    if gone.rows_affected() < u64::from(ROWS) {
        sqlx::query("DELETE FROM snapshots WHERE snapshot = ?")
            .bind(snapshot)
            .execute(connection)
            .await?;
    }
    Ok(true)
}

/// From the first record on, up to and without the one at `until`.
async fn drop_records(
    connection: &mut SqliteConnection,
    account: &Account,
    until: u64,
) -> Result<bool, StoreError> {
    if account.first_seq >= until {
        return Ok(false);
    }
    let rows =
        sqlx::query("SELECT seq, bytes FROM records WHERE account = ? AND seq < ? ORDER BY seq LIMIT ?")
            .bind(account.id.0)
            .bind(int(until)?)
            .bind(ROWS)
            .fetch_all(&mut *connection)
            .await?;
    let Some((last, freed)) = oldest(&rows)? else {
        return Ok(false);
    };
    sqlx::query("DELETE FROM records WHERE account = ? AND seq <= ?")
        .bind(account.id.0)
        .bind(int(last)?)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE accounts SET first_seq = ?, log_bytes = log_bytes - ? WHERE account = ?")
        .bind(int(last.saturating_add(1))?)
        .bind(int(freed)?)
        .bind(account.id.0)
        .execute(connection)
        .await?;
    Ok(true)
}

async fn drop_replaced(
    connection: &mut SqliteConnection,
    account: AccountId,
    policy: &HistoryPolicy,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let over = now.0.saturating_sub(policy.keep_ms());
    let gone = sqlx::query(
        "DELETE FROM replaced_records WHERE place IN (
            SELECT place FROM replaced_records WHERE account = ? AND replaced_at < ? LIMIT ?
         )",
    )
    .bind(account.0)
    .bind(int(over)?)
    .bind(ROWS)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected() > 0)
}
