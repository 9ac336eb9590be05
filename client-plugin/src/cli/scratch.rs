//! A directory for a database that nobody keeps.

use anyhow::{Context as _, bail};
use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// `backstop-drill` in some directory, its owner's alone, held by one process and removed with all it holds when
/// dropped. What a killed process left is removed by the next one.
pub(super) struct Scratch {
    path: PathBuf,
    /// Holds the lock, which goes with the process, whatever ends it.
    _lock: File,
}

impl Scratch {
    /// Makes it in `parent`, which must exist.
    pub(super) fn make(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join("backstop-drill");
        let failed = || format!("{} cannot be made", path.display());
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
        let lock = File::open(&path).with_context(failed)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!("another drill is at work in {}", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            Ok(()) => {}
        }
        let scratch = Self { path, _lock: lock };
        for left in fs::read_dir(&scratch.path)? {
            let left = left?;
            if left.file_type()?.is_dir() {
                fs::remove_dir_all(left.path())?;
            } else {
                fs::remove_file(left.path())?;
            }
        }
        Ok(scratch)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next drill.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_its_owners_alone_begins_empty_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::make(dir.path()).unwrap();
        let mode = fs::metadata(scratch.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::write(scratch.path().join("database.sqlite3"), b"half").unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_drill_left_is_removed_and_one_at_work_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("backstop-drill");
        fs::create_dir_all(left.join("database.sqlite3.restoring")).unwrap();
        fs::write(left.join("database.sqlite3"), b"half").unwrap();
        let scratch = Scratch::make(dir.path()).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        let other = Scratch::make(dir.path()).err().unwrap();
        assert!(other.to_string().contains("at work"), "{other}");
        assert!(scratch.path().exists());
    }
}
