//! The files as a server has them.

use super::{BadFiles, Files};
use crate::{
    keys::FilesKey,
    remote::{RemoteError, Session},
};
use backstop_protocol::{clock::UnixMillis, problem::ProblemCode};

/// Why the files could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchFilesError {
    /// The server did not give them.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// What it gave is not what the node sealed.
    #[error(transparent)]
    Bad(#[from] BadFiles),
}

/// Fetches and opens the files as they were at a time by the server's clock, or the newest; `None` where it has none.
pub async fn fetch(
    session: &Session,
    key: &FilesKey,
    at: Option<UnixMillis>,
) -> Result<Option<Files>, FetchFilesError> {
    match session.files(at).await {
        Ok(sealed) => Ok(Some(Files::open(key, &sealed)?)),
        Err(error) if error.code() == Some(ProblemCode::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
