//! A mirror: a directory on another device that follows a server, record by record, and is itself a backup from which a
//! node can be restored without any server.
//!
//! It needs no key: what it stores is checked by hashes and by the chain (I3), and opened by a restore alone. Where the
//! server and the mirror disagree, what the mirror holds is set aside and never written over; what the server drops, the
//! mirror drops by its own settings alone.
//!
//! | file | what |
//! |---|---|
//! | `mirror.toml` | whose backup, where, the grant, how long things are kept ([`Config`]) |
//! | `access` | the secret access key of this device, 0400 |
//! | `index.sqlite3` | records, manifests, files, and where chunks lie ([`Index`]) |
//! | `packs/` | packs as the server had them, by their hashes |
//! | `key` | the node's root, 0400, where a standby is kept |
//! | `standby/` | the node's database as it stands now, where one is kept ([`Standby`]) |
//! | `lock` | held by the process that follows |

mod backup;
mod beside;
mod config;
mod error;
mod index;
mod packs;
mod pull;
mod standby;
mod sweep;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use error::MirrorError;
pub use index::{Index, State};
pub use pull::Pull;
pub use standby::Standby;

use crate::{durable, random::SharedRng};
use backstop_protocol::session::IdentitySecret;
use nix::fcntl::{Flock, FlockArg};
use packs::Packs;
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use zeroize::Zeroizing;

const ACCESS: &str = "access";
const KEY: &str = "key";
const INDEX: &str = "index.sqlite3";
const LOCK: &str = "lock";

/// A mirror's directory, open.
pub struct Mirror {
    dir: PathBuf,
    config: Config,
    index: Mutex<Index>,
    packs: Packs,
}

impl Mirror {
    /// Opens a mirror that is there, as a restore does: nobody is kept out.
    pub fn open(dir: &Path) -> Result<Self, MirrorError> {
        let config = Config::read(dir)?;
        let index = Index::open(&dir.join(INDEX))?;
        Ok(Self {
            dir: dir.to_owned(),
            packs: Packs::in_dir(dir),
            index: Mutex::new(index),
            config,
        })
    }

    /// The same to follow with: made where it is not there yet.
    pub fn open_or_create(dir: &Path, config: Config) -> Result<Self, MirrorError> {
        let index = Index::create(&dir.join(INDEX))?;
        Ok(Self {
            dir: dir.to_owned(),
            packs: Packs::in_dir(dir),
            index: Mutex::new(index),
            config,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whose it is, and how it is kept.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How far it is.
    pub fn state(&self) -> Result<State, MirrorError> {
        self.index().state()
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a mirror's directory, its owner's alone.
pub fn create_dir(dir: &Path) -> Result<(), MirrorError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| durable::sync_parent(dir))
        .map_err(|error| MirrorError::io(dir, error))
}

/// Held by the one process that follows; the kernel lets go when it ends, however it ends.
pub struct Lock {
    _held: Flock<File>,
}

/// Takes the lock of a mirror's directory, or says that another process has it.
pub fn lock(dir: &Path) -> Result<Lock, MirrorError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| MirrorError::io(&path, error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Lock { _held: held }),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(MirrorError::Busy(dir.to_owned())),
        Err((_, errno)) => Err(MirrorError::io(&path, errno.into())),
    }
}

/// The node's root, where a standby is kept.
#[must_use]
pub fn key_path(dir: &Path) -> PathBuf {
    dir.join(KEY)
}

/// The access key of this device: 64 hex digits and a line end. Made where there is none.
pub fn access_key(dir: &Path, rng: &SharedRng) -> Result<IdentitySecret, MirrorError> {
    let path = dir.join(ACCESS);
    match read_access(&path) {
        Err(MirrorError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let secret = loop {
        let bytes = Zeroizing::new(rng.array::<32>());
        // One in 2^128 is no key.
        if let Ok(secret) = IdentitySecret::from_bytes(&bytes) {
            break secret;
        }
    };
    let mut text = Zeroizing::new(hex::encode(secret.expose_bytes()));
    text.push('\n');
    durable::write_new(&path, text.as_bytes(), 0o400).map_err(|error| MirrorError::io(&path, error))?;
    Ok(secret)
}

fn read_access(path: &Path) -> Result<IdentitySecret, MirrorError> {
    let io = |error| MirrorError::io(path, error);
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(MirrorError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(String::with_capacity(128));
    file.take(128).read_to_string(&mut text).map_err(io)?;
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), &mut *bytes)
        .ok()
        .and_then(|()| IdentitySecret::from_bytes(&bytes).ok())
        .ok_or_else(|| MirrorError::Bad {
            path: path.to_owned(),
            reason: "it holds no key (64 hex digits)".to_owned(),
        })
}
