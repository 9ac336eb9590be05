//! What an operator's command does to the database of a server that may be running: SQLite lets a second process in, and
//! each command is one short transaction.

use super::{BUSY_WAIT, MIGRATIONS, accounts, cells::int};
use crate::store::{
    Account,
    operator::{EPOCHS_PASSED, OperatorError, choose},
};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use std::path::Path;

/// Orders a roll-up of a node: its next append is answered so, until a snapshot is committed. Answers the account as it
/// stood. Without a network the node must be there on one alone.
pub async fn order_roll_up(
    database: &Path,
    node: NodeId,
    network: Option<Network>,
    now: UnixMillis,
) -> Result<Account, OperatorError> {
    let mut connection = connect(database).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let account = find(&mut transaction, node, network).await?;
    sqlx::query("UPDATE accounts SET roll_up_ordered_at = ? WHERE account = ?")
        .bind(int(now.0)?)
        .bind(account.id.0)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(account)
}

/// Whether a database is there, and of this program's version.
pub(super) async fn check(database: &Path) -> Result<(), OperatorError> {
    Ok(reach(database).await?.close().await?)
}

/// Says that the database is a copy of an earlier time: every account that has records is held until a takeover lets go of it.
/// How many. Of one without records nothing was acknowledged, or its node's witness says so.
pub async fn mark_restored(database: &Path, now: UnixMillis) -> Result<u64, OperatorError> {
    let mut connection = connect(database).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let held = sqlx::query("UPDATE accounts SET restored_at = ?, epoch = epoch + ? WHERE head_seq > 0")
        .bind(int(now.0)?)
        .bind(EPOCHS_PASSED)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    transaction.commit().await?;
    connection.close().await?;
    Ok(held)
}

/// Opens the file of a server that may be running.
pub(in crate::store) async fn connect(database: &Path) -> Result<SqliteConnection, OperatorError> {
    let mut connection = reach(database).await?;
    let filling: bool = sqlx::query_scalar("SELECT filling IS NOT NULL FROM store")
        .fetch_one(&mut connection)
        .await?;
    if filling {
        return Err(OperatorError::NotWhole);
    }
    Ok(connection)
}

/// The same for one that may still be on its way from elsewhere.
pub(in crate::store) async fn reach(database: &Path) -> Result<SqliteConnection, OperatorError> {
    if !database.is_file() {
        return Err(OperatorError::NoDatabase(database.display().to_string()));
    }
    let mut connection = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_WAIT)
        .disable_statement_logging()
        .connect()
        .await?;
    check_version(&mut connection).await?;
    Ok(connection)
}

/// Nothing is migrated here: a server that runs would not know of it. Every migration must be there, not the newest alone.
async fn check_version(connection: &mut SqliteConnection) -> Result<(), OperatorError> {
    let found: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(connection)
            .await
            .map_err(|_| OperatorError::OtherVersion)?;
    let known = MIGRATIONS
        .iter()
        .map(|migration| (migration.version, migration.checksum.to_vec()));
    if found.into_iter().eq(known) {
        Ok(())
    } else {
        Err(OperatorError::OtherVersion)
    }
}

async fn find(
    connection: &mut SqliteConnection,
    node: NodeId,
    network: Option<Network>,
) -> Result<Account, OperatorError> {
    let rows = sqlx::query("SELECT * FROM accounts WHERE node = ? ORDER BY network")
        .bind(node.0.as_slice())
        .fetch_all(connection)
        .await?;
    let accounts = rows.iter().map(accounts::read).collect::<Result<Vec<_>, _>>()?;
    choose(accounts, node, network)
}
