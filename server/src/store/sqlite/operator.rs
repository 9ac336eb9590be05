//! What an operator's command does to the database of a server that may be running: SQLite lets a second process in, and
//! each command is one short transaction.

use super::{BUSY_WAIT, MIGRATIONS, accounts, cells::int};
use crate::store::{Account, StoreError};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use std::path::Path;

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no database.
    #[error("there is no database at {0}; say with --data DIR where the server keeps its data")]
    NoDatabase(String),
    /// The database is at another version than this program.
    #[error(
        "the database belongs to another version of backstop-server; use the program that serves it, or start the server once with this one"
    )]
    OtherVersion,
    /// No such node.
    #[error("this server has no node {0}; `backstop status` on the node's machine shows its id")]
    UnknownNode(NodeId),
    /// No such node on that network.
    #[error("this server has the node {0}, but not on {1}; it is there on {2}")]
    OtherNetwork(NodeId, Network, String),
    /// On several networks.
    #[error("the node {0} is here on several networks ({1}); choose one with --network")]
    WhichNetwork(NodeId, String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OperatorError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Orders a roll-up of a node: its next append is answered so, until a snapshot is committed. Answers the account as it
/// stood. Without a network the node must be there on one alone.
pub async fn order_roll_up(
    database: &Path,
    node: NodeId,
    network: Option<Network>,
    now: UnixMillis,
) -> Result<Account, OperatorError> {
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

/// Nothing is migrated here: a server that runs would not know of it.
async fn check_version(connection: &mut SqliteConnection) -> Result<(), OperatorError> {
    let found: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await
        .map_err(|_| OperatorError::OtherVersion)?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max();
    if found == known {
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
    let mut accounts = rows.iter().map(accounts::read).collect::<Result<Vec<_>, _>>()?;
    let networks: Vec<_> = accounts
        .iter()
        .map(|account| account.network.to_string())
        .collect();
    let networks = networks.join(", ");
    if accounts.is_empty() {
        return Err(OperatorError::UnknownNode(node));
    }
    if let Some(network) = network {
        accounts.retain(|account| account.network == network);
    }
    match (accounts.pop(), network) {
        (Some(account), _) if accounts.is_empty() => Ok(account),
        (None, Some(network)) => Err(OperatorError::OtherNetwork(node, network, networks)),
        _ => Err(OperatorError::WhichNetwork(node, networks)),
    }
}
