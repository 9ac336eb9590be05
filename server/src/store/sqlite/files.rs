//! The files beside the database, version by version.

use super::{
    accounts,
    cells::{int, number, time},
};
use crate::store::{AccountId, Load, PutFiles, StoreError, Terms};
use backstop_protocol::{api::FilesInfo, clock::UnixMillis};
use sqlx::{Row as _, SqliteConnection};

pub(super) async fn put(
    connection: &mut SqliteConnection,
    put: &PutFiles,
    terms: &Terms,
) -> Result<(), StoreError> {
    let account = accounts::load(connection, put.account).await?;
    account.check_writer(&put.writer)?;
    if at(connection, put.account, None).await?.as_deref() == Some(put.sealed.as_ref()) {
        return Ok(());
    }
    account.take(put.sealed.len(), Load::Other, terms)?;
    sqlx::query("INSERT INTO files (account, received_at, bytes, sealed) VALUES (?, ?, ?, ?)")
        .bind(put.account.0)
        .bind(int(put.now.0)?)
        .bind(i64::try_from(put.sealed.len()).map_err(|_| StoreError::corrupt("length"))?)
        .bind(put.sealed.as_ref())
        .execute(connection)
        .await?;
    Ok(())
}

/// The last version that had arrived by then, by the order of arrival: a clock that was set back hides none.
pub(super) async fn at(
    connection: &mut SqliteConnection,
    account: AccountId,
    at: Option<UnixMillis>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let by = at
        .map_or(Ok(i64::MAX), |at| i64::try_from(at.0))
        .unwrap_or(i64::MAX);
    let row = sqlx::query(
        "SELECT sealed FROM files WHERE account = ? AND received_at <= ? ORDER BY version DESC LIMIT 1",
    )
    .bind(account.0)
    .bind(by)
    .fetch_optional(connection)
    .await?;
    row.map(|row| row.try_get("sealed"))
        .transpose()
        .map_err(StoreError::from)
}

pub(super) async fn newest(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<Option<FilesInfo>, StoreError> {
    let row =
        sqlx::query("SELECT received_at, bytes FROM files WHERE account = ? ORDER BY version DESC LIMIT 1")
            .bind(account.0)
            .fetch_optional(connection)
            .await?;
    row.map(|row| {
        Ok(FilesInfo {
            received_at: time(&row, "received_at")?.unwrap_or_default(),
            bytes: number(&row, "bytes")?,
        })
    })
    .transpose()
}

pub(super) async fn drop_old(
    connection: &mut SqliteConnection,
    account: AccountId,
    before: UnixMillis,
) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "DELETE FROM files WHERE account = ?1 AND version < (
            SELECT max(version) FROM files WHERE account = ?1 AND received_at <= ?2
         ) AND NOT EXISTS (SELECT 1 FROM accounts WHERE account = ?1 AND held_since IS NOT NULL)",
    )
    .bind(account.0)
    .bind(i64::try_from(before.0).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
