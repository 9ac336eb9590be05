//! The place where a database is built: beside its future place, so that a rename puts it there.

use super::error::RestoreError;
use crate::{durable, replay::companions};
use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// The database's name in the directory.
const DATABASE: &str = "database";

/// A work directory, `<database>.restoring`, held by one process and removed with all it holds when dropped; but what was
/// downloaded stays for the next attempt, until it proves to be of no use.
pub(super) struct Work {
    dir: PathBuf,
    target: PathBuf,
    /// Whether the database in it is worth something to the next attempt.
    keeps: AtomicBool,
    /// Holds the lock, which goes with the process, whatever ends it.
    _lock: File,
}

impl Work {
    /// Takes the work directory for a database that is to stand at `target`; what an earlier attempt left is removed but
    /// for the database itself.
    pub(super) fn begin(target: &Path) -> Result<Self, RestoreError> {
        let dir = directory(target);
        // Before anything is made: a directory that belongs to a node stays as it was.
        vacant(target)?;
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RestoreError::io(dir, error));
            }
            _ => {}
        }
        let lock = File::open(&dir).map_err(|error| RestoreError::io(&dir, error))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(RestoreError::Busy(dir)),
            Err(TryLockError::Error(error)) => return Err(RestoreError::io(dir, error)),
            Ok(()) => {}
        }
        let work = Self {
            dir,
            target: target.to_owned(),
            keeps: AtomicBool::new(false),
            _lock: lock,
        };
        work.clear()?;
        Ok(work)
    }

    /// Where the database is built.
    pub(super) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// The database that an earlier attempt left is of no use.
    pub(super) fn start_anew(&self) -> Result<(), RestoreError> {
        let path = self.database();
        remove(&path).map_err(|error| RestoreError::io(path, error))
    }

    /// Whether what stands in the database is worth something to the next attempt: each piece of it is proved again there.
    pub(super) fn keep(&self, keeps: bool) {
        self.keeps.store(keeps, Ordering::Relaxed);
    }

    /// Puts the database, which was flushed, in place; never over another one. Its length, bytes.
    pub(super) fn put_in_place(&self) -> Result<u64, RestoreError> {
        vacant(&self.target)?;
        durable::rename_new(&self.database(), &self.target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RestoreError::Exists(self.target.clone()),
            _ => RestoreError::io(&self.target, error),
        })?;
        let placed = fs::metadata(&self.target).map_err(|error| RestoreError::io(&self.target, error))?;
        Ok(placed.len())
    }

    fn clear(&self) -> Result<(), RestoreError> {
        let io = |error| RestoreError::io(&self.dir, error);
        for entry in fs::read_dir(&self.dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_name() != DATABASE {
                remove(&entry.path()).map_err(io)?;
            }
        }
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.keeps.load(Ordering::Relaxed) && self.database().exists() {
            let _ = self.clear();
        } else {
            // What cannot be removed now is removed by the next restore.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn directory(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".restoring");
    PathBuf::from(name)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directory in which an attempt that was cut left what it had downloaded of the database that is to stand at `target`.
pub fn left(target: &Path) -> Option<PathBuf> {
    let dir = directory(target);
    dir.join(DATABASE).exists().then_some(dir)
}

/// Succeeds where no database stands at `target`, nor a journal that `SQLite` would take for the new one's;
/// [`RestoreError::Exists`] names what does.
pub fn vacant(target: &Path) -> Result<(), RestoreError> {
    for path in companions(target).iter().map(PathBuf::as_path).chain([target]) {
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(RestoreError::Exists(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(RestoreError::io(path, error)),
        }
    }
    Ok(())
}
