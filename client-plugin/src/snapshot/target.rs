//! The file that a fetched database is written to.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// After how many bytes the system is told to write down what it holds: the disk is at work while the rest is fetched, and the last
/// flush is short.
const FLUSH_EVERY: u64 = 64 << 20;

/// A file that several threads write to, each a piece at its place.
pub(super) struct Target {
    file: File,
    /// What was in it at first, bytes.
    held: u64,
    unflushed: AtomicU64,
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
        self.file.write_all_at(piece, at)?;
        let len = piece.len() as u64;
        let before = self.unflushed.fetch_add(len, Ordering::Relaxed);
        if before / FLUSH_EVERY != (before + len) / FLUSH_EVERY {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Makes all of it last.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
