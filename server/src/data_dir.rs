//! The directory in which a server keeps everything: its identity, its database, its packs.

use crate::{durable, identity};
use backstop_protocol::session::IdentitySecret;
use nix::unistd::Uid;
use rand_core::CryptoRng;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// No place for it is known.
    #[error("neither XDG_DATA_HOME nor HOME is set; say where the data shall lie with --data DIR")]
    NoHome,
    /// It cannot be made.
    #[error("cannot make the data directory {}: {cause}; choose another with --data DIR", .dir.display())]
    Create {
        /// The directory.
        dir: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It cannot be written to.
    #[error("cannot write to the data directory {}: {cause}; give it to the user that runs the server, or choose another with --data DIR", .dir.display())]
    NotWritable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another process uses it.
    #[error("another backstop-server uses {}; stop that one, or choose another directory with --data DIR", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
}

/// Where the data lie where nobody says: `$XDG_DATA_HOME/backstop-server`, for root `/var/lib/backstop-server`, for
/// anybody else `~/.local/share/backstop-server`.
pub fn default_data_dir() -> Result<PathBuf, DataDirError> {
    let set = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = match (set("XDG_DATA_HOME"), Uid::effective().is_root(), set("HOME")) {
        (Some(data), _, _) => data,
        (None, true, _) => PathBuf::from("/var/lib"),
        (None, false, Some(home)) => home.join(".local/share"),
        (None, false, None) => return Err(DataDirError::NoHome),
    };
    Ok(base.join("backstop-server"))
}

/// A data directory that is ours while this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
    /// Held while a server starts.
    starting: Option<File>,
}

/// With whom a data directory is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// With nobody: the database is in it.
    Alone,
    /// With other servers over the same database elsewhere.
    Together,
}

impl DataDir {
    /// Makes the directory where it is missing, mode 0700, and keeps every other server out of it, or out of it as long as
    /// it does not share. The lock is the kernel's: it goes with the process, however that ends. Servers that share start
    /// one after the other, so that one of them makes the identity and the others find it.
    pub(crate) fn open(path: &Path, sharing: Sharing) -> Result<Self, DataDirError> {
        let dir = path.to_owned();
        durable::create_dir(path).map_err(|cause| DataDirError::Create {
            dir: dir.clone(),
            cause,
        })?;
        let not_writable = |cause| DataDirError::NotWritable {
            dir: dir.clone(),
            cause,
        };
        let file = |name| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600);
            options.open(path.join(name))
        };
        let lock = file("lock").map_err(not_writable)?;
        let (locked, starting) = match sharing {
            Sharing::Alone => (lock.try_lock(), None),
            Sharing::Together => {
                let starting = file("starting").map_err(not_writable)?;
                starting.lock().map_err(not_writable)?;
                (lock.try_lock_shared(), Some(starting))
            }
        };
        match locked {
            Ok(()) => Ok(Self {
                path: dir.clone(),
                _lock: lock,
                starting,
            }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { dir: dir.clone() }),
            Err(TryLockError::Error(cause)) => Err(not_writable(cause)),
        }
    }

    /// Lets the next server start.
    pub(crate) fn started(&mut self) {
        self.starting = None;
    }

    /// The server's identity, made at the first start.
    pub(crate) fn identity(&self, rng: &mut dyn CryptoRng) -> Result<IdentitySecret, DataDirError> {
        Ok(identity::load_or_create(&self.path, rng)?)
    }

    /// Flushes the names in it, once everything that is made at a start is made.
    pub(crate) fn sync(&self) -> Result<(), DataDirError> {
        durable::sync_dir(&self.path).map_err(|cause| DataDirError::NotWritable {
            dir: self.path.clone(),
            cause,
        })
    }

    /// The SQLite file.
    pub(crate) fn database(&self) -> PathBuf {
        database_in(&self.path)
    }

    /// Where packs lie.
    pub(crate) fn packs(&self) -> PathBuf {
        packs_in(&self.path)
    }
}

/// The SQLite file of a data directory.
pub(crate) fn database_in(data: &Path) -> PathBuf {
    data.join("backstop.sqlite3")
}

/// Where packs lie in a data directory.
pub(crate) fn packs_in(data: &Path) -> PathBuf {
    data.join("packs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_kept_out_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let open = |sharing| DataDir::open(&path, sharing);
        let first = open(Sharing::Alone).unwrap();
        for sharing in [Sharing::Alone, Sharing::Together] {
            assert!(matches!(open(sharing), Err(DataDirError::InUse { .. })));
        }
        drop(first);
        assert!(open(Sharing::Alone).is_ok());
    }

    #[test]
    fn servers_that_share_a_directory_keep_out_those_that_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let open = |sharing| DataDir::open(dir.path(), sharing);
        let mut first = open(Sharing::Together).unwrap();
        first.started();
        let second = open(Sharing::Together).unwrap();
        assert!(matches!(open(Sharing::Alone), Err(DataDirError::InUse { .. })));
        drop((first, second));
        assert!(open(Sharing::Alone).is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = DataDir::open(&dir.path().join("file/data"), Sharing::Alone)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("file/data") && error.contains("--data DIR"),
            "{error}"
        );
    }
}
