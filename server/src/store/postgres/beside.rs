//! Databases that are used as they are, and never brought up to date: beside servers that run, or because that is forbidden.

use super::{OpenError, PostgresStore, opening, options};
use crate::store::Terms;
use rand_core::CryptoRng;
use sqlx::{ConnectOptions as _, Connection as _};

/// Fails where the database is not at this program's version.
pub async fn check_current(url: &str) -> Result<(), OpenError> {
    let mut connection = options(url)?.disable_statement_logging().connect().await?;
    opening::owner(&mut connection).await?;
    Ok(connection.close().await?)
}

impl PostgresStore {
    /// Opens a database that servers of this very version use.
    pub async fn open_beside(url: &str, rng: &mut (dyn CryptoRng + Send)) -> Result<Self, OpenError> {
        let mut connection = options(url)?.disable_statement_logging().connect().await?;
        let server = opening::owner(&mut connection).await?;
        connection.close().await?;
        Self::open(url, server, Terms::default(), rng).await
    }
}
