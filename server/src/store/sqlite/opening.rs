//! What is checked before a database is used, and why it may not be.

use crate::store::StoreId;
use sqlx::{Connection as _, Row as _, SqliteConnection, migrate::MigrateError};
use std::io;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database was written by a newer program.
    #[error(
        "the database was written by a newer backstop-server (it knows migration {0}); run that version or a later one"
    )]
    Newer(i64),
    /// It is older than this program, or not there, and must not be brought up to date.
    #[error("it is not up to date, and --migrate=false forbids to change that; run: backstop-server migrate")]
    NotCurrent,
    /// The migrations could not be applied.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] MigrateError),
    /// SQLite does not promise what an acknowledgement rests on (I1).
    #[error(
        "SQLite does not keep what is committed here ({setting} is {found}); move the data to a local disk"
    )]
    NotDurable {
        /// The setting that is wrong.
        setting: &'static str,
        /// What it is.
        found: String,
    },
    /// The file cannot be made or written.
    #[error("cannot write to it")]
    File(#[from] io::Error),
    /// SQLite itself failed.
    #[error("cannot open the database")]
    Database(#[from] sqlx::Error),
}

/// SQLite's word for what I1 rests on; it may fall back silently, on a file system that has no shared memory.
pub(super) async fn check_durable(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let journal_mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await?;
    if journal_mode != "wal" {
        return Err(OpenError::NotDurable {
            setting: "journal_mode",
            found: journal_mode,
        });
    }
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await?;
    if synchronous != 2 {
        return Err(OpenError::NotDurable {
            setting: "synchronous",
            found: synchronous.to_string(),
        });
    }
    Ok(())
}

pub(super) async fn name(connection: &mut SqliteConnection, new_id: [u8; 16]) -> Result<StoreId, OpenError> {
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO store (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING")
        .bind(new_id.as_slice())
        .execute(&mut *transaction)
        .await?;
    let id: Vec<u8> = sqlx::query("SELECT id FROM store")
        .fetch_one(&mut *transaction)
        .await?
        .try_get(0)?;
    transaction.commit().await?;
    let id = id
        .try_into()
        .map_err(|_| sqlx::Error::Decode("the store's id".into()))?;
    Ok(StoreId(id))
}
