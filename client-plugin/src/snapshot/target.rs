//! The file that a fetched database is written to.

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

/// After how many bytes the system is told to write down what it holds: the disk is at work while the rest is fetched, and the last
/// flush is short. Pieces come in the order of names, not of places: with fewer, the disk would write each where it lies, with more,
/// neighbours go in one.
const FLUSH_EVERY: u64 = 256 << 20;

/// A file that several threads write to, each a piece at its place, until it is closed.
///
/// A thread whose piece nobody waits for any more, because another request failed, still runs. What it wrote after records were
/// applied to the file would undo them (I9): so nobody writes to a closed one.
pub(super) struct Target {
    file: File,
    /// What was in it at first, bytes.
    held: u64,
    written: AtomicU64,
    open: RwLock<bool>,
    /// The flush beside the writing, and what it says in the end: the system tells of an error once.
    flushing: Mutex<Option<Flushing>>,
}

/// A flush that is under way on a thread of its own.
#[must_use]
pub struct Flushing(JoinHandle<io::Result<()>>);

impl Flushing {
    fn begin(flush: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        thread::Builder::new()
            .name("flush".to_owned())
            .spawn(flush)
            .map(Self)
    }

    /// Waits for its end. Nothing of the file may be relied on before this succeeded.
    pub fn end(self) -> io::Result<()> {
        self.0
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the flush broke off")))
    }
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
            written: AtomicU64::new(0),
            open: RwLock::new(true),
            flushing: Mutex::new(None),
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

    /// Gives the file its length, and all of its room at once where the file system can: filled piece by piece it would lie all over the
    /// disk.
    pub(super) fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        let len = i64::try_from(len).map_err(io::Error::other)?;
        if len == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            reserved => Ok(reserved?),
        }
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
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        if before / FLUSH_EVERY != (before + len) / FLUSH_EVERY {
            self.flush_beside()?;
        }
        Ok(())
    }

    /// Has written down what is there, unless that is going on already, and waits for nothing.
    fn flush_beside(&self) -> io::Result<()> {
        let mut flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if flushing
            .as_ref()
            .is_some_and(|flushing| !flushing.0.is_finished())
        {
            return Ok(());
        }
        if let Some(ended) = flushing.take() {
            ended.end()?;
        }
        let file = self.file.try_clone()?;
        *flushing = Some(Flushing::begin(move || file.sync_data())?);
        Ok(())
    }

    /// Waits for the flush beside the writing. Its error is told once: whoever does not hear it may believe later what never reached
    /// the disk.
    pub(super) fn flushed_beside(&self) -> io::Result<()> {
        let mut flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        flushing.take().map_or(Ok(()), Flushing::end)
    }

    /// Lets nobody write to it any more.
    pub(super) fn close(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Closes it, and begins to make all of it last.
    pub(super) fn flush(self: &Arc<Self>) -> io::Result<Flushing> {
        self.close();
        let target = Arc::clone(self);
        Flushing::begin(move || {
            target.flushed_beside()?;
            target.file.sync_all()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_to_a_file_that_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("database");
        let target = Arc::new(Target::create(&path).unwrap());
        target.write(b"in time", 0).unwrap();
        target.flush().unwrap().end().unwrap();
        assert!(target.write(b"too late", 0).is_err());
        assert_eq!(std::fs::read(path).unwrap(), b"in time");
    }

    #[test]
    fn a_file_has_all_of_its_room_before_anything_is_written_to_it_and_keeps_what_it_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("database");
        std::fs::write(&path, b"held").unwrap();
        let target = Target::open(&path).unwrap();
        for len in [1 << 20, 5000, 0] {
            target.reserve(len).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
        }
        target.reserve(100).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [0; 100]);
    }

    #[test]
    fn the_error_of_a_flush_beside_the_writing_is_heard_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let target = Arc::new(Target::create(&dir.path().join("database")).unwrap());
        let fails = || Flushing::begin(|| Err(io::Error::other("the disk"))).unwrap();
        *target.flushing.lock().unwrap() = Some(fails());
        assert!(target.flushed_beside().is_err());
        *target.flushing.lock().unwrap() = Some(fails());
        assert!(target.flush().unwrap().end().is_err());
    }

    #[test]
    fn a_flush_beside_the_writing_loses_nothing_of_what_comes_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("database");
        let target = Arc::new(Target::create(&path).unwrap());
        for at in 0..50 {
            target.write(&[u8::try_from(at).unwrap(); 10], at * 10).unwrap();
            target.flush_beside().unwrap();
        }
        target.flush().unwrap().end().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            bytes
                .iter()
                .zip(0..)
                .all(|(byte, at)| usize::from(*byte) == at / 10)
        );
        assert_eq!(bytes.len(), 500);
    }
}
