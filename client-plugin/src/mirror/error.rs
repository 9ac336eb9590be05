//! Why a mirror cannot go on. What it holds is as good as it was.

use crate::{
    remote::RemoteError,
    replay::{self, SqliteError},
    restore::BadChain,
    shadow::ShadowError,
};
use backstop_protocol::{bytes::Malformed, head::Head, id::TimelineId};
use std::{io, path::PathBuf};

/// Why a mirror cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// A file of it.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file that this program cannot read as what it is.
    #[error("{} cannot be understood: {reason}", .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others may use the access key.
    #[error("{} can be used by others (mode {mode:04o}): run chmod 0400 {}", .path.display(), .path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process follows with this directory.
    #[error("another backstop mirror is at work in {}", .0.display())]
    Busy(PathBuf),
    /// The index.
    #[error("the mirror's index cannot be used: {0}")]
    Index(SqliteError),
    /// The server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The server gave what it must not give.
    #[error("what the server gave cannot be stored: {0}")]
    Malformed(#[from] Malformed),
    /// The server's records are no chain.
    #[error("the server's log is not a chain: {0}")]
    Chain(#[from] BadChain),
    /// The server holds less than the mirror.
    #[error(
        "the server ends at {server}, and this mirror holds {mirror}: the server lost data, or serves an old copy. Nothing \
         here was changed; keep this mirror, and tell the node's owner"
    )]
    Behind {
        /// Where the server's chain ends.
        server: Head,
        /// Where the mirror's does.
        mirror: Head,
    },
    /// The server shows another history that is not newer.
    #[error(
        "the server shows another history of this node ({0}) that is not newer than what this mirror holds: nothing here was changed"
    )]
    OtherHistory(TimelineId),
    /// The server gave something else than what was asked for.
    #[error("the server gave something else than {0}")]
    Wrong(String),
    /// A chunk that a snapshot needs is not to be had.
    #[error("the server cannot give all chunks of its newest snapshot now")]
    Chunks,
    /// The standby.
    #[error("the standby: {0}")]
    Standby(#[from] ShadowError),
}

impl MirrorError {
    /// An I/O error at `path`.
    pub(super) fn io(path: impl Into<PathBuf>, error: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            error,
        }
    }

    /// Whether this machine's disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { error, .. } => replay::is_full(error),
            Self::Index(error) => error.is_full(),
            Self::Standby(error) => error.is_full(),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for MirrorError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error.into())
    }
}
