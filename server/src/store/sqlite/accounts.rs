//! Accounts and grants in SQLite.

pub(super) use super::cells::account as read;
use super::{
    cells::{Cell, int, millis},
    tenants,
};
use crate::store::{
    Account, AccountId, Refusal, SessionRequest, ShownGrant, StoreError, Terms, judge_grant, judge_remembered,
};
use backstop_protocol::{api::AccountState, clock::UnixMillis, grant::Grant, id::AccessKey};
use sqlx::{Row as _, SqliteConnection};
use std::sync::LazyLock;

pub(super) async fn open(
    connection: &mut SqliteConnection,
    request: &SessionRequest,
    terms: &Terms,
) -> Result<(AccountId, AccountState), StoreError> {
    let found = sqlx::query("SELECT * FROM accounts WHERE node = ? AND network = ?")
        .bind(request.node.0.as_slice())
        .bind(request.network.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let known = found.as_ref().map(read).transpose()?;
    let floor = known.as_ref().map_or(0, |account| account.grant_floor);
    // Judged before anything is said of the account: who shows no grant does not learn whether there is one.
    match (&request.grant, &known) {
        (Some(shown), _) => judge_grant(&shown.grant, request.scope, floor, request.now)?,
        (None, Some(account)) => {
            let grants = remembered(connection, account.id, request.access_key).await?;
            judge_remembered(&grants, request.scope, floor, request.now)?;
        }
        (None, None) => return Err(Refusal::GrantMissing.into()),
    }
    let mut account = match known {
        // Its name is free again in a moment.
        Some(account) if account.going => return Err(StoreError::being_removed()),
        Some(account) => account,
        None if request.registers() => create(connection, request, terms).await?,
        None => return Err(Refusal::NotFound.into()),
    };
    if let Some(claim) = &request.claim {
        let held = account.restored_since;
        account.claim(claim, request.now)?;
        write(connection, &account).await?;
        if held.is_some() {
            let_go(connection, account.id).await?;
        }
    }
    if let Some(shown) = &request.grant {
        remember(connection, account.id, shown, request.now).await?;
    }
    let state = state(connection, &account, terms, request.now).await?;
    Ok((account.id, state))
}

/// A takeover was made over a store that was restored: the account is held no more.
async fn let_go(connection: &mut SqliteConnection, account: AccountId) -> Result<(), StoreError> {
    sqlx::query("UPDATE accounts SET restored_at = NULL WHERE account = ?")
        .bind(account.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// What the server says about an account that was read.
pub(super) async fn state(
    connection: &mut SqliteConnection,
    account: &Account,
    terms: &Terms,
    now: UnixMillis,
) -> Result<AccountState, StoreError> {
    let snapshot = super::snapshots::newest(connection, account.id).await?;
    Ok(AccountState {
        files: super::files::newest(connection, account.id).await?,
        ..account.state(snapshot, terms, now)
    })
}

pub(super) async fn raise_floor(
    connection: &mut SqliteConnection,
    account: AccountId,
    floor: u64,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE accounts SET grant_floor = max(grant_floor, ?) WHERE account = ?")
        .bind(int(floor)?)
        .bind(account.0)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Refusal::NotFound.into());
    }
    Ok(())
}

/// The account, or [`Refusal::NotFound`].
pub(super) async fn load(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<Account, StoreError> {
    let row = sqlx::query("SELECT * FROM accounts WHERE account = ?")
        .bind(account.0)
        .fetch_optional(connection)
        .await?;
    read(&row.ok_or(Refusal::NotFound)?)
}

/// The columns that openings and appends change, behind the one that says whose they are.
const WRITTEN: [&str; 19] = [
    "account",
    "epoch",
    "instance",
    "run",
    "writer_since",
    "writer_seen_at",
    "timeline",
    "head_epoch",
    "head_seq",
    "head_hash",
    "head_prev",
    "head_received_at",
    "first_seq",
    "log_bytes",
    "tail_bytes",
    "tail_records",
    "tail_since",
    "snapshot_bytes",
    "rhythm_ms",
];

/// The statement that writes one account, as [`written`] gives it.
pub(super) static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let columns = WRITTEN.iter().enumerate().skip(1);
    let changes: Vec<_> = columns
        .map(|(at, column)| format!("{column} = ?{}", at + 1))
        .collect();
    format!("UPDATE accounts SET {} WHERE account = ?1", changes.join(", "))
});

/// Writes what openings and appends change.
pub(super) async fn write(connection: &mut SqliteConnection, account: &Account) -> Result<(), StoreError> {
    let query = sqlx::query(UPDATE.as_str());
    written(account)?
        .into_iter()
        .fold(query, |query, cell| cell.bind(query))
        .execute(connection)
        .await?;
    Ok(())
}

/// The values of [`WRITTEN`].
pub(super) fn written(account: &Account) -> Result<[Cell<'_>; WRITTEN.len()], StoreError> {
    let seat = account.seat.as_ref();
    let number = |value| Ok::<_, StoreError>(Cell::Int(Some(int(value)?)));
    let time = |at| Ok::<_, StoreError>(Cell::Int(millis(at)?));
    Ok([
        Cell::Int(Some(account.id.0)),
        number(account.epoch())?,
        Cell::Blob(seat.map(|seat| seat.writer.instance.0.as_slice())),
        Cell::Blob(seat.map(|seat| seat.writer.run.0.as_slice())),
        time(seat.map(|seat| seat.since))?,
        time(seat.map(|seat| seat.seen_at))?,
        Cell::Blob(account.timeline.as_ref().map(|timeline| timeline.0.as_slice())),
        number(account.head.epoch)?,
        number(account.head.seq)?,
        Cell::Blob(Some(&account.head.hash.0)),
        Cell::Blob(Some(&account.before_head.0)),
        time(account.head_received_at)?,
        number(account.first_seq)?,
        number(account.log_bytes)?,
        number(account.tail.bytes)?,
        number(account.tail.records)?,
        time(account.tail.since)?,
        number(account.tail.snapshot_bytes)?,
        number(account.rhythm_ms)?,
    ])
}

async fn create(
    connection: &mut SqliteConnection,
    request: &SessionRequest,
    terms: &Terms,
) -> Result<Account, StoreError> {
    let admission = tenants::admit(connection, request, terms).await?;
    let row =
        sqlx::query("INSERT INTO accounts (node, network, created_at) VALUES (?, ?, ?) RETURNING account")
            .bind(request.node.0.as_slice())
            .bind(request.network.as_str())
            .bind(int(request.now.0)?)
            .fetch_one(&mut *connection)
            .await?;
    let id = AccountId(row.try_get("account")?);
    let mut account = Account::new(id, request.node, request.network);
    tenants::admitted(connection, &mut account, admission).await?;
    Ok(account)
}

async fn remember(
    connection: &mut SqliteConnection,
    account: AccountId,
    shown: &ShownGrant,
    now: UnixMillis,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO grants (account, access_key, serial, text, signature, shown_at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(account.0)
    .bind(shown.grant.access_key.0.as_slice())
    .bind(int(shown.grant.serial)?)
    .bind(&shown.signed.text)
    .bind(&shown.signed.signature)
    .bind(int(now.0)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// The highest serial first.
async fn remembered(
    connection: &mut SqliteConnection,
    account: AccountId,
    access_key: AccessKey,
) -> Result<Vec<Grant>, StoreError> {
    let texts: Vec<String> = sqlx::query_scalar(
        "SELECT text FROM grants WHERE access_key = ? AND account = ? ORDER BY serial DESC LIMIT 64",
    )
    .bind(access_key.0.as_slice())
    .bind(account.0)
    .fetch_all(connection)
    .await?;
    texts
        .iter()
        .map(|text| text.parse().map_err(|_| StoreError::corrupt("grant")))
        .collect()
}
