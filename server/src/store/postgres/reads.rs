//! Reading.

use super::{
    accounts,
    cells::{page_end, query, remembered, scalar, time},
};
use crate::store::{AccountId, StoreError, StoredRecord};
use backstop_protocol::{
    api::{ACCOUNT_GRANTS_MAX, AccountGrants},
    grant::SignedGrant,
    id::AccessKey,
    record::RECORD_MIN,
};
use sqlx::{PgConnection, Row as _};

/// Most grants that are listed for one key.
const GRANTS_MAX: i64 = 64;

pub(super) async fn grants(
    connection: &mut PgConnection,
    access_key: AccessKey,
) -> Result<Vec<SignedGrant>, StoreError> {
    let rows =
        query("SELECT text, signature FROM grants WHERE access_key = $1 ORDER BY serial DESC LIMIT $2")
            .bind(access_key.0.as_slice())
            .bind(GRANTS_MAX)
            .fetch_all(connection)
            .await?;
    let grant = |row: &sqlx::postgres::PgRow| -> Result<SignedGrant, StoreError> {
        Ok(SignedGrant {
            text: row.try_get("text")?,
            signature: row.try_get("signature")?,
        })
    };
    rows.iter().map(grant).collect()
}

pub(super) async fn account_grants(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<AccountGrants, StoreError> {
    let floor = accounts::load(connection, account).await?.grant_floor;
    let rows = query(
        "SELECT text, signature, shown_at FROM grants WHERE account = $1 ORDER BY serial DESC, access_key LIMIT $2",
    )
    .bind(account.0)
    .bind(i64::try_from(ACCOUNT_GRANTS_MAX).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    let grants = rows.iter().map(remembered).collect::<Result<_, _>>()?;
    Ok(AccountGrants { floor, grants })
}

pub(super) async fn accounts(
    connection: &mut PgConnection,
    after: AccountId,
    most: usize,
) -> Result<Vec<AccountId>, StoreError> {
    let ids: Vec<i64> = scalar("SELECT account FROM accounts WHERE account > $1 ORDER BY account LIMIT $2")
        .bind(after.0)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().map(AccountId).collect())
}

pub(super) async fn records(
    connection: &mut PgConnection,
    account: AccountId,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<StoredRecord>, StoreError> {
    let Ok(from) = i64::try_from(from) else {
        // No record can lie there.
        return Ok(Vec::new());
    };
    let most = i64::try_from(max_bytes / RECORD_MIN + 1).unwrap_or(i64::MAX);
    // Lengths first: they lie in the rows' heads, while the records themselves may be hundreds of megabytes.
    let lengths =
        query("SELECT seq, bytes FROM records WHERE account = $1 AND seq >= $2 ORDER BY seq LIMIT $3")
            .bind(account.0)
            .bind(from)
            .bind(most)
            .fetch_all(&mut *connection)
            .await?;
    let Some(last) = page_end(&lengths, max_bytes)? else {
        return Ok(Vec::new());
    };
    let rows = query(
        "SELECT received_at, sealed FROM records WHERE account = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq",
    )
    .bind(account.0)
    .bind(from)
    .bind(last)
    .fetch_all(connection)
    .await?;
    let record = |row: &sqlx::postgres::PgRow| -> Result<StoredRecord, StoreError> {
        Ok(StoredRecord {
            received_at: time(row, "received_at")?.unwrap_or_default(),
            sealed: row.try_get("sealed")?,
        })
    };
    rows.iter().map(record).collect()
}
