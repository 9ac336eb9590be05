//! The file that a fetched database is written to.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// After how many bytes the system is told to write down what it holds: the disk is at work while the rest is fetched, and the last
/// flush is short.
const FLUSH_EVERY: u64 = 64 << 20;

/// A file that several threads write to, each a piece at its place, until it is closed.
///
/// A thread whose piece nobody waits for any more, because another request failed, still runs. What it wrote after records were
/// applied to the file would undo them (I9): so nobody writes to a closed one.
pub(super) struct Target {
    file: File,
    /// What was in it at first, bytes.
    held: u64,
    unflushed: AtomicU64,
    open: RwLock<bool>,
}

impl Target {
    /// A file that must not exist yet.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().create_new(true), path)
    }

    /// A file that an earlier attempt may have left.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::with(OpenOptions::new().create(true).truncate(false), path)
    }

    fn with(options: &mut OpenOptions, path: &Path) -> io::Result<Self> {
        let file = options.read(true).write(true).mode(0o600).open(path)?;
        Ok(Self {
            held: file.metadata()?.len(),
            file,
            unflushed: AtomicU64::new(0),
            open: RwLock::new(true),
        })
    }

    /// Whether there was anything in the file.
    pub(super) fn held_something(&self) -> bool {
        self.held > 0
    }

    /// The file, to be read.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its length.
    pub(super) fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// Writes a piece to its place.
    pub(super) fn write(&self, piece: &[u8], at: u64) -> io::Result<()> {
        // Held until the piece is there: whoever closes the file waits for it.
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(io::Error::other("the file is closed"));
        }
        self.file.write_all_at(piece, at)?;
        let len = piece.len() as u64;
        let before = self.unflushed.fetch_add(len, Ordering::Relaxed);
        if before / FLUSH_EVERY != (before + len) / FLUSH_EVERY {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Lets nobody write to it any more.
    pub(super) fn close(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Closes it, and makes all of it last.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.close();
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_to_a_file_that_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("database");
        let target = Target::create(&path).unwrap();
        target.write(b"in time", 0).unwrap();
        target.flush().unwrap();
        assert!(target.write(b"too late", 0).is_err());
        assert_eq!(std::fs::read(path).unwrap(), b"in time");
    }
}
