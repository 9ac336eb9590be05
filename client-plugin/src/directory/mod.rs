//! `backstop/` in the node's network directory: what this machine knows about its own backup.
//!
//! | file | what | written |
//! |---|---|---|
//! | `config.toml` | servers, grant, outage policy | by `setup`, and by hand |
//! | `key` | the root secret, 0400 ([`crate::keys`]) | by `setup` and `restore` |
//! | `instance` | the name of this lightning-dir as a writer | by `setup`, `restore`, `adopt` |
//! | `runs` | the runs of this directory, and whether the last one ended cleanly | at each run's start and end |
//! | `witness` | the last head that was acknowledged to this directory | lazily, and at each run's end |
//! | `stated` | the servers that the backup names | by `setup`'s first run, `restore`, `adopt`, `server` |
//! | `taken` | the epoch at which this directory took the node over | by `restore`, `adopt` |
//! | `change` | the servers that are to be, while the backup may name them already | by `server`, until it is done |
//! | `spool` | updates that no server has yet ([`crate::spool`]) | during an outage, where the operator chose that |
//! | `declared` | for how long the backup says that this node may spool | at a run's start, by `restore` and `adopt` |
//! | `granted` | the grants that were given to other devices | by `grant` |
//! | `revoked` | the last revocation that was signed here | by `revoke` |
//! | `receipts/` | what servers signed that they hold | by `receipt` |
//! | `shadow/` | a copy of the database as the backup gives it ([`crate::shadow`]) | by the plugin, in the background |
//! | `lock` | held by the process that may write | never |

mod config;
mod granted;
mod instance;
mod lock;
mod pending;
mod revoked;
mod runs;
mod spooling;
mod stated;
mod taken;
mod witness;

pub use config::{
    Config, OutageConfig, OutagePolicy, RequireConfig, ServerConfig, ShadowConfig, SpoolConfig,
};
pub use lock::{Lock, LockError};
pub use pending::Pending;
pub use runs::{Place, Runs};
pub(crate) use runs::{boot_id, machine};
pub use stated::Stated;
pub use witness::Witness;

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Name of the directory for copies.
const WORK: &str = "work";
/// Mode of every file here but the key, which is 0400.
const MODE: u32 = 0o600;

/// What is wrong with a file in `backstop/`.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The directory or a file in it is not there.
    #[error("{path} is not there; run `backstop setup` for this node", path = .0.display())]
    Missing(PathBuf),
    /// The operating system refused.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file that this program cannot read as what it is.
    #[error("{path} cannot be understood: {reason}", path = .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The `backstop/` directory of one node on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory in `network_dir` (`<lightning-dir>/<network>`); nothing is touched yet.
    #[must_use]
    pub fn in_network_dir(network_dir: &Path) -> Self {
        Self {
            path: network_dir.join("backstop"),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the root secret.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.path.join("key")
    }

    /// A place for copies that may be lost, on the same file system as the node's database. Made where it is not there.
    pub fn work(&self) -> Result<PathBuf, DirectoryError> {
        let path = self.path.join(WORK);
        private_dir()
            .create(&path)
            .map_err(|error| self.io(WORK, error))?;
        Ok(path)
    }

    /// The shadow's place ([`crate::shadow`]); it may not be there.
    #[must_use]
    pub fn shadow(&self) -> PathBuf {
        self.path.join("shadow")
    }

    /// Whether `setup` has been here.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.join(config::FILE).exists()
    }

    /// Makes the directory, 0700, if it is not there.
    pub fn create(&self) -> Result<(), DirectoryError> {
        let made = private_dir().create(&self.path);
        made.and_then(|()| crate::durable::sync_parent(&self.path))
            .map_err(|error| self.io("", error))
    }

    fn read(&self, file: &str) -> Result<String, DirectoryError> {
        self.read_if_there(file)?
            .ok_or_else(|| DirectoryError::Missing(self.path.join(file)))
    }

    fn read_if_there(&self, file: &str) -> Result<Option<String>, DirectoryError> {
        match std::fs::read_to_string(self.path.join(file)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(file, error)),
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(file);
        crate::durable::write(&path, text.as_bytes(), MODE)
            .map_err(|error| DirectoryError::Io { path, error })
    }

    /// Removes a file, durably; one that is not there is removed already.
    fn remove(&self, file: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(file);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.io(file, error)),
            _ => crate::durable::sync_parent(&path).map_err(|error| self.io(file, error)),
        }
    }

    fn io(&self, file: &str, error: io::Error) -> DirectoryError {
        DirectoryError::Io {
            path: self.path.join(file),
            error,
        }
    }

    fn bad(&self, file: &str, reason: impl Into<String>) -> DirectoryError {
        DirectoryError::Bad {
            path: self.path.join(file),
            reason: reason.into(),
        }
    }
}

/// Nobody but lightningd's user looks into it.
fn private_dir() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
}

#[cfg(test)]
mod tests;
