//! Accounts and grants in PostgreSQL.

use super::{
    cells::{Query, account as read, int, millis, query, scalar},
    tenants,
};
use crate::store::{
    Account, AccountId, Refusal, SessionRequest, ShownGrant, StoreError, Terms, judge_grant, judge_remembered,
};
use backstop_protocol::{api::AccountState, clock::UnixMillis, grant::Grant, id::AccessKey};
use sqlx::{PgConnection, Row as _};

pub(super) async fn open(
    connection: &mut PgConnection,
    request: &SessionRequest,
    terms: &Terms,
) -> Result<(AccountId, AccountState), StoreError> {
    let found = query("SELECT * FROM accounts WHERE node = $1 AND network = $2 FOR UPDATE")
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
        write(connection, &[&account]).await?;
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
async fn let_go(connection: &mut PgConnection, account: AccountId) -> Result<(), StoreError> {
    query("UPDATE accounts SET restored_at = NULL WHERE account = $1")
        .bind(account.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// What the server says about an account that was read.
pub(super) async fn state(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
    account: AccountId,
    floor: u64,
) -> Result<(), StoreError> {
    let done = query("UPDATE accounts SET grant_floor = greatest(grant_floor, $1) WHERE account = $2")
        .bind(int(floor)?)
        .bind(account.0)
        .execute(connection)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Refusal::NotFound.into());
    }
    Ok(())
}

/// The account as it stands, or [`Refusal::NotFound`].
pub(super) async fn load(connection: &mut PgConnection, account: AccountId) -> Result<Account, StoreError> {
    let row = query("SELECT * FROM accounts WHERE account = $1")
        .bind(account.0)
        .fetch_optional(connection)
        .await?;
    read(&row.ok_or(Refusal::NotFound)?)
}

/// The account, which nobody else changes from now on until the transaction ends, in whichever process: what is judged by
/// it holds at the commit (I3, I7, I8). Every transaction that writes for an account begins here.
pub(super) async fn lock(connection: &mut PgConnection, account: AccountId) -> Result<Account, StoreError> {
    let row = query("SELECT * FROM accounts WHERE account = $1 FOR UPDATE")
        .bind(account.0)
        .fetch_optional(connection)
        .await?;
    read(&row.ok_or(Refusal::NotFound)?)
}

/// Writes what openings and appends change. Returns the new versions of the rows.
pub(super) async fn write(
    connection: &mut PgConnection,
    accounts: &[&Account],
) -> Result<Vec<(AccountId, i64)>, StoreError> {
    let rows = bind(query(WRITE), accounts)?.fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok((AccountId(row.try_get("account")?), row.try_get("version")?)))
        .collect()
}

/// The arrays are those of [`bind`].
const WRITE: &str = "UPDATE accounts SET
        epoch = new.epoch, instance = new.instance, run = new.run, writer_since = new.writer_since,
        writer_seen_at = new.writer_seen_at, timeline = new.timeline, head_epoch = new.head_epoch,
        head_seq = new.head_seq, head_hash = new.head_hash, head_prev = new.head_prev,
        head_received_at = new.head_received_at, first_seq = new.first_seq, log_bytes = new.log_bytes,
        tail_bytes = new.tail_bytes, tail_records = new.tail_records, tail_since = new.tail_since,
        snapshot_bytes = new.snapshot_bytes, rhythm_ms = new.rhythm_ms
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bytea[],
        $8::bigint[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[], $13::bigint[], $14::bigint[],
        $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[])
    AS new (account, epoch, instance, run, writer_since, writer_seen_at, timeline, head_epoch, head_seq, head_hash,
        head_prev, head_received_at, first_seq, log_bytes, tail_bytes, tail_records, tail_since, snapshot_bytes,
        rhythm_ms)
    WHERE accounts.account = new.account
    RETURNING accounts.account, accounts.xmin::text::bigint AS version";

/// Binds the accounts, column by column.
fn bind<'q>(query: Query<'q>, accounts: &[&Account]) -> Result<Query<'q>, StoreError> {
    let numbers = |of: &dyn Fn(&Account) -> u64| -> Result<Vec<i64>, StoreError> {
        accounts.iter().map(|account| int(of(account))).collect()
    };
    let times = |of: &dyn Fn(&Account) -> Option<UnixMillis>| -> Result<Vec<Option<i64>>, StoreError> {
        accounts.iter().map(|account| millis(of(account))).collect()
    };
    let blobs = |of: &dyn Fn(&Account) -> Option<Vec<u8>>| -> Vec<Option<Vec<u8>>> {
        accounts.iter().map(|account| of(account)).collect()
    };
    let ids: Vec<i64> = accounts.iter().map(|account| account.id.0).collect();
    Ok(query
        .bind(ids)
        .bind(numbers(&Account::epoch)?)
        .bind(blobs(&|of| of.seat.map(|seat| seat.writer.instance.0.to_vec())))
        .bind(blobs(&|of| of.seat.map(|seat| seat.writer.run.0.to_vec())))
        .bind(times(&|of| of.seat.map(|seat| seat.since))?)
        .bind(times(&|of| of.seat.map(|seat| seat.seen_at))?)
        .bind(blobs(&|of| of.timeline.map(|timeline| timeline.0.to_vec())))
        .bind(numbers(&|of| of.head.epoch)?)
        .bind(numbers(&|of| of.head.seq)?)
        .bind(blobs(&|of| Some(of.head.hash.0.to_vec())))
        .bind(blobs(&|of| Some(of.before_head.0.to_vec())))
        .bind(times(&|of| of.head_received_at)?)
        .bind(numbers(&|of| of.first_seq)?)
        .bind(numbers(&|of| of.log_bytes)?)
        .bind(numbers(&|of| of.tail.bytes)?)
        .bind(numbers(&|of| of.tail.records)?)
        .bind(times(&|of| of.tail.since)?)
        .bind(numbers(&|of| of.tail.snapshot_bytes)?)
        .bind(numbers(&|of| of.rhythm_ms)?))
}

/// Where another process makes the same account at this moment, this fails, and is run again when that one is there.
async fn create(
    connection: &mut PgConnection,
    request: &SessionRequest,
    terms: &Terms,
) -> Result<Account, StoreError> {
    let admission = tenants::admit(connection, request, terms).await?;
    let id: i64 =
        scalar("INSERT INTO accounts (node, network, created_at) VALUES ($1, $2, $3) RETURNING account")
            .bind(request.node.0.as_slice())
            .bind(request.network.as_str())
            .bind(int(request.now.0)?)
            .fetch_one(&mut *connection)
            .await?;
    let mut account = Account::new(AccountId(id), request.node, request.network);
    tenants::admitted(connection, &mut account, admission).await?;
    Ok(account)
}

async fn remember(
    connection: &mut PgConnection,
    account: AccountId,
    shown: &ShownGrant,
    now: UnixMillis,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO grants (account, access_key, serial, text, signature, shown_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
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
    connection: &mut PgConnection,
    account: AccountId,
    access_key: AccessKey,
) -> Result<Vec<Grant>, StoreError> {
    let texts: Vec<String> = scalar(
        "SELECT text FROM grants WHERE access_key = $1 AND account = $2 ORDER BY serial DESC LIMIT 64",
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
