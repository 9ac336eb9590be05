//! The operator's own way into the database of a server that may be running: each act is one short transaction.

use super::{
    Account, AccountId, Act, Allowed, Invite, StoreError,
    operator::{OperatorError, choose},
    postgres, sqlite,
};
use backstop_protocol::id::{Network, NodeId};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use std::path::Path;

/// A database as an operator's command has it.
pub enum Office {
    /// The file of a server that stands alone.
    Sqlite(SqliteConnection),
    /// The database of any number of servers.
    Postgres(PgConnection),
}

/// Ends a transaction at once, whatever became of it: a server may be waiting for the row.
macro_rules! end {
    ($transaction:expr, $done:expr) => {
        match $done {
            Ok(value) => {
                $transaction.commit().await?;
                value
            }
            Err(error) => {
                $transaction.rollback().await?;
                return Err(error.into());
            }
        }
    };
}

/// Runs one function of `tenants` in a transaction of its own.
macro_rules! transact {
    ($office:expr, $call:ident $(, $argument:expr)*) => {
        match $office {
            Office::Sqlite(connection) => {
                let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
                let done = sqlite::tenants::$call(&mut transaction $(, $argument)*).await;
                end!(transaction, done)
            }
            Office::Postgres(connection) => {
                let mut transaction = connection.begin_with(postgres::operator::BEGIN).await?;
                let done = postgres::tenants::$call(&mut transaction $(, $argument)*).await;
                end!(transaction, done)
            }
        }
    };
}

impl Office {
    /// Opens the SQLite file of a server. Nothing is made and nothing is migrated: a server that runs would not know of it.
    pub async fn of_file(database: &Path) -> Result<Self, OperatorError> {
        Ok(Self::Sqlite(sqlite::operator::connect(database).await?))
    }

    /// Opens a PostgreSQL database, likewise.
    pub async fn of_url(url: &str) -> Result<Self, OperatorError> {
        Ok(Self::Postgres(postgres::operator::connect(url).await?))
    }

    /// All accounts, by node and network.
    pub async fn accounts(&mut self) -> Result<Vec<Account>, OperatorError> {
        Ok(transact!(self, accounts_of, None))
    }

    /// One account. Without a network the node must be there on one alone.
    pub async fn account(
        &mut self,
        node: NodeId,
        network: Option<Network>,
    ) -> Result<Account, OperatorError> {
        let accounts = transact!(self, accounts_of, Some(node));
        choose(accounts, node, network)
    }

    /// Those who may come without an invitation, by node and network.
    pub async fn allowed(&mut self) -> Result<Vec<Allowed>, OperatorError> {
        Ok(transact!(self, allowed))
    }

    /// The invitations, the newest first.
    pub async fn invites(&mut self) -> Result<Vec<Invite>, OperatorError> {
        Ok(transact!(self, invites))
    }

    /// What an account uses, counted from its rows: the log, and what is kept beside it. It reads all of them.
    pub async fn recount(&mut self, account: AccountId) -> Result<(u64, u64), OperatorError> {
        Ok(transact!(self, recount, account))
    }

    /// Does one thing, all or nothing.
    pub async fn act(&mut self, act: &Act) -> Result<(), OperatorError> {
        transact!(self, act, act);
        Ok(())
    }

    /// Lets go of the database.
    pub async fn close(self) -> Result<(), OperatorError> {
        let closed = match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        };
        Ok(closed.map_err(StoreError::from)?)
    }
}
