//! Files that are still there after a power cut (I1): written under a temporary name, flushed, renamed, and the directory
//! flushed too. Nothing else in this crate creates, renames, flushes or removes a file.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

/// How much of a file is written before it is flushed. On the same disk appends are flushed one after another (I1), and each waits
/// behind whatever the disk was given before it: of a pack that is this much, not all of it.
const PIECE: usize = 1 << 20;

/// Flushes a directory: the names in it are durable then.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a directory that its owner alone may enter, and those above it; says whether it was missing. Each new
/// name is flushed.
pub(crate) fn create_dir(dir: &Path) -> io::Result<bool> {
    if dir.is_dir() {
        return Ok(false);
    }
    if let Some(parent) = parent(dir) {
        create_dir(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) => return Err(error),
    }
    if let Some(parent) = parent(dir) {
        sync_dir(parent)?;
    }
    Ok(true)
}

/// Puts `bytes` into the file `to` of the given mode, by way of `temporary`, on the same file system. An older file
/// of that name is replaced as a whole. On an error nothing is left under the temporary name.
pub(crate) fn write(temporary: &Path, to: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let written = write_temporary(temporary, bytes, mode).and_then(|()| rename(temporary, to));
    if written.is_err() {
        // The first error is the one that matters.
        let _ = std::fs::remove_file(temporary);
    }
    written
}

fn write_temporary(temporary: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(temporary)?;
    for piece in bytes.chunks(PIECE) {
        file.write_all(piece)?;
        file.sync_data()?;
    }
    file.sync_all()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one rename, with its directory flushed behind it"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    parent(to).map_or(Ok(()), sync_dir)
}

/// Removes a file; that it is gone is durable. One that is not there is no error.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Ok(()) => parent(file).map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The directory of a path; the working directory for a bare name.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| {
        if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_replaces_another_as_a_whole_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, to) = (dir.path().join("t"), dir.path().join("f"));
        write(&temporary, &to, b"long before", 0o600).unwrap();
        write(&temporary, &to, b"after", 0o400).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"after");
        assert_eq!(
            std::fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            0o400
        );
        assert!(!temporary.exists());
    }

    #[test]
    fn a_file_that_cannot_be_put_in_its_place_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let temporary = dir.path().join("t");
        assert!(write(&temporary, &dir.path().join("missing/f"), b"x", 0o600).is_err());
        assert!(!temporary.exists());
    }

    #[test]
    fn a_new_directory_is_its_owners_alone_with_those_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        assert!(create_dir(&deep).unwrap());
        assert!(!create_dir(&deep).unwrap());
        for made in [&deep, &dir.path().join("a")] {
            assert_eq!(
                std::fs::metadata(made).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
    }
}
