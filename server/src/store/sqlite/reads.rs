//! Reading beside the writer.

use super::{
    accounts,
    cells::{page_end, remembered, time},
};
use crate::store::{AccountId, Refusal, StoreError, StoredRecord, Terms};
use backstop_protocol::{
    api::{ACCOUNT_GRANTS_MAX, AccountGrants, AccountState},
    clock::UnixMillis,
    grant::SignedGrant,
    id::AccessKey,
    record::RECORD_MIN,
};
use sqlx::{Row as _, SqlitePool};

/// Most grants that are listed for one key.
const GRANTS_MAX: i64 = 64;

pub(super) async fn ping(reads: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query("SELECT id FROM store").fetch_one(reads).await?;
    Ok(())
}

pub(super) async fn grants(
    reads: &SqlitePool,
    access_key: AccessKey,
) -> Result<Vec<SignedGrant>, StoreError> {
    let rows =
        sqlx::query("SELECT text, signature FROM grants WHERE access_key = ? ORDER BY serial DESC LIMIT ?")
            .bind(access_key.0.as_slice())
            .bind(GRANTS_MAX)
            .fetch_all(reads)
            .await?;
    let grant = |row: &sqlx::sqlite::SqliteRow| -> Result<SignedGrant, StoreError> {
        Ok(SignedGrant {
            text: row.try_get("text")?,
            signature: row.try_get("signature")?,
        })
    };
    rows.iter().map(grant).collect()
}

pub(super) async fn account_grants(
    reads: &SqlitePool,
    account: AccountId,
) -> Result<AccountGrants, StoreError> {
    let mut view = reads.begin().await?;
    let floor = accounts::load(&mut view, account).await?.grant_floor;
    let rows = sqlx::query(
        "SELECT text, signature, shown_at FROM grants WHERE account = ? ORDER BY serial DESC, access_key LIMIT ?",
    )
    .bind(account.0)
    .bind(i64::try_from(ACCOUNT_GRANTS_MAX).unwrap_or(i64::MAX))
    .fetch_all(&mut *view)
    .await?;
    let grants = rows.iter().map(remembered).collect::<Result<_, _>>()?;
    Ok(AccountGrants { floor, grants })
}

pub(super) async fn accounts(
    reads: &SqlitePool,
    after: AccountId,
    most: usize,
) -> Result<Vec<AccountId>, StoreError> {
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT account FROM accounts WHERE account > ? ORDER BY account LIMIT ?")
            .bind(after.0)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(reads)
            .await?;
    Ok(ids.into_iter().map(AccountId).collect())
}

pub(super) async fn account(
    reads: &SqlitePool,
    account: AccountId,
    terms: &Terms,
    now: UnixMillis,
) -> Result<AccountState, StoreError> {
    // A transaction, so that all questions see one state.
    let mut view = reads.begin().await?;
    let found = accounts::load(&mut view, account).await?;
    if found.going {
        return Err(Refusal::NotFound.into());
    }
    accounts::state(&mut view, &found, terms, now).await
}

pub(super) async fn records(
    reads: &SqlitePool,
    account: AccountId,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<StoredRecord>, StoreError> {
    let Ok(from) = i64::try_from(from) else {
        // No record can lie there.
        return Ok(Vec::new());
    };
    let most = i64::try_from(max_bytes / RECORD_MIN + 1).unwrap_or(i64::MAX);
    let mut view = reads.begin().await?;
    // Lengths first: they lie in the rows' heads, while the records themselves may be hundreds of megabytes.
    let lengths =
        sqlx::query("SELECT seq, bytes FROM records WHERE account = ? AND seq >= ? ORDER BY seq LIMIT ?")
            .bind(account.0)
            .bind(from)
            .bind(most)
            .fetch_all(&mut *view)
            .await?;
    let Some(last) = page_end(&lengths, max_bytes)? else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query(
        "SELECT received_at, sealed FROM records WHERE account = ? AND seq BETWEEN ? AND ? ORDER BY seq",
    )
    .bind(account.0)
    .bind(from)
    .bind(last)
    .fetch_all(&mut *view)
    .await?;
    let record = |row: &sqlx::sqlite::SqliteRow| -> Result<StoredRecord, StoreError> {
        Ok(StoredRecord {
            received_at: time(row, "received_at")?.unwrap_or_default(),
            sealed: row.try_get("sealed")?,
        })
    };
    rows.iter().map(record).collect()
}
