//! `lock`: keeps a second process of this directory out (I7).

use super::Directory;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt};

/// Held as long as it lives; the kernel lets go when the process ends, however it ends.
pub struct Lock {
    _held: Flock<std::fs::File>,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process of this directory holds it.
    #[error("another backstop process holds this directory")]
    Held,
    /// The operating system refused.
    #[error("the lock file: {0}")]
    Io(#[from] io::Error),
}

impl Directory {
    /// Takes the lock, or says at once that another process holds it.
    pub fn lock(&self) -> Result<Lock, LockError> {
        let path = self.path().join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(super::MODE)
            .open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(Lock { _held: held }),
            Err((_, Errno::EWOULDBLOCK)) => Err(LockError::Held),
            Err((_, errno)) => Err(LockError::Io(errno.into())),
        }
    }
}
