//! What an operator's command does to the database of servers that may be running: one short transaction each.

use super::{
    cells::{account as read, int, query, scalar},
    opening::{is_current, options},
};
use crate::store::{
    Account,
    operator::{EPOCHS_PASSED, OperatorError, choose},
};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

/// How each of an operator's transactions begins.
pub(in crate::store) const BEGIN: &str =
    "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '30s'";

/// Opens the database of servers that may be running.
pub(in crate::store) async fn connect(url: &str) -> Result<PgConnection, OperatorError> {
    let mut connection = reach(url).await?;
    let filling: bool = scalar("SELECT filling IS NOT NULL FROM store")
        .fetch_one(&mut connection)
        .await?;
    if filling {
        return Err(OperatorError::NotWhole);
    }
    Ok(connection)
}

/// The same for one that may still be on its way from elsewhere. Nothing is migrated here: servers that run would not know of it.
pub(in crate::store) async fn reach(url: &str) -> Result<PgConnection, OperatorError> {
    let options = options(url).map_err(|error| OperatorError::Url(error.to_string()))?;
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin_with(BEGIN).await?;
    let current = is_current(&mut transaction).await.unwrap_or_default();
    transaction.rollback().await?;
    if current {
        Ok(connection)
    } else {
        Err(OperatorError::OtherVersion)
    }
}

/// Orders a roll-up of a node: its next append is answered so, until a snapshot is committed. Answers the account as it
/// stood. Without a network the node must be there on one alone.
pub async fn order_roll_up(
    url: &str,
    node: NodeId,
    network: Option<Network>,
    now: UnixMillis,
) -> Result<Account, OperatorError> {
    let mut connection = connect(url).await?;
    let mut transaction = connection.begin_with(BEGIN).await?;
    let rows = query("SELECT * FROM accounts WHERE node = $1 ORDER BY network, account FOR UPDATE")
        .bind(node.0.as_slice())
        .fetch_all(&mut *transaction)
        .await?;
    let accounts = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let account = choose(accounts, node, network)?;
    query("UPDATE accounts SET roll_up_ordered_at = $1 WHERE account = $2")
        .bind(int(now.0)?)
        .bind(account.id.0)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(account)
}

/// Says that the database is a copy of an earlier time: every account that has records is held until a takeover lets go of it.
/// How many. Of one without records nothing was acknowledged, or its node's witness says so.
pub async fn mark_restored(url: &str, now: UnixMillis) -> Result<u64, OperatorError> {
    let mut connection = connect(url).await?;
    let mut transaction = connection.begin_with(BEGIN).await?;
    let held = query("UPDATE accounts SET restored_at = $1, epoch = epoch + $2 WHERE head_seq > 0")
        .bind(int(now.0)?)
        .bind(EPOCHS_PASSED)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    transaction.commit().await?;
    connection.close().await?;
    Ok(held)
}
