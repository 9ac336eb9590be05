//! Files that are used as they are, and never brought up to date: beside a server that runs, or because that is forbidden.

use super::{OpenError, SqliteStore, operator};
use crate::store::{Terms, operator::OperatorError};
use rand_core::CryptoRng;
use std::path::Path;

/// Why a command did not open the database beside its server.
#[derive(Debug, thiserror::Error)]
pub enum OpenBeside {
    /// It is not there, or another version's.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Fails where there is no database, or it is not at this program's version.
pub async fn check_current(path: &Path) -> Result<(), OpenError> {
    operator::check(path).await.map_err(|_| OpenError::NotCurrent)
}

impl SqliteStore {
    /// Opens a file that a server of this very version made, and may have open.
    pub async fn open_beside(path: &Path, rng: &mut (dyn CryptoRng + Send)) -> Result<Self, OpenBeside> {
        operator::check(path).await?;
        Ok(Self::open(path, None, Terms::default(), rng).await?)
    }
}
