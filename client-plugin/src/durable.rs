//! The only place that syncs and renames (I1 for local files).
//!
//! A file that must survive a power cut is written under a temporary name, flushed, renamed, and then its directory
//! is flushed: without the last step the rename itself may be undone.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Writes `bytes` to `path` so that after a power cut it holds either what it held before or all of `bytes`.
/// The file gets `mode`, whatever the umask leaves of it.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_with(path, mode, |file| file.write_all(bytes))
}

/// Like [`write()`], where `content` writes what the file is to hold.
pub fn write_with<E: From<io::Error>>(
    path: &Path,
    mode: u32,
    content: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let temporary = prepare(path, mode, content)?;
    Ok(rename(&temporary, path)?)
}

/// Like [`write()`], but refuses with `AlreadyExists` where `path` exists.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = prepare(path, mode, |file| file.write_all(bytes))?;
    let renamed = rename_new(&temporary, path);
    if renamed.is_err() {
        // It may hold a secret; the first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    renamed
}

/// Writes and flushes what is to be renamed to `path`.
fn prepare<E: From<io::Error>>(
    path: &Path,
    mode: u32,
    content: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let temporary = temporary(path);
    remove_leftover(&temporary)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    let written = content(&mut file).and_then(|()| Ok(file.sync_all()?));
    drop(file);
    if let Err(error) = written {
        // The half-written file is ours and of no use; the first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(temporary)
}

/// What is always left to lightningd, whose own commit must not fail for our sake; less on a small file system.
const ROOM_LEFT: u64 = 256 << 20;

/// Fails with `StorageFull` where the file system of `dir` has no room for so many bytes and some more. Not a promise:
/// others write too.
pub fn need_room(dir: &Path, bytes: u64) -> io::Result<()> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    let of = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    let left = ROOM_LEFT.min(of(found.blocks()) / 20);
    if of(found.blocks_available()) < bytes.saturating_add(bytes / 8).saturating_add(left) {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    Ok(())
}

/// Renames a file that was flushed already, and flushes the directory that holds it.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_parent(to)
}

/// Like [`rename`], but refuses with `AlreadyExists` where `to` exists, without a moment in between.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    // A hard link is the one portable way to name a file only where no file is.
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)?;
    sync_parent(to)
}

/// Flushes the content of a file that was written by other means, as by SQLite.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Flushes the directory that holds `path`, so that its name lasts.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// Where [`write()`] prepares a file.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn remove_leftover(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_the_mode_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o400).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o400
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn room_is_asked_for_before_a_disk_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        need_room(dir.path(), 1).unwrap();
        let none = need_room(dir.path(), u64::MAX / 2).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_leftover_of_a_crash_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(temporary(&path), b"half").unwrap();
        write(&path, b"whole", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_new_file_is_never_written_over_another_one_and_leaves_nothing_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_new(&path, b"one", 0o400).unwrap();
        assert_eq!(
            write_new(&path, b"two", 0o400).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_existing_file_is_never_renamed_over_by_rename_new() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, b"new").unwrap();
        std::fs::write(&to, b"old").unwrap();
        assert_eq!(
            rename_new(&from, &to).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&to).unwrap(), b"old");
    }
}
