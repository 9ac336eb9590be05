//! Whether a lightningd runs in a directory: it holds a lock on its pidfile for as long as it lives
//! (`lightningd/lightningd.c`, `pidfile_create`).

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};
use std::{fs::File, io, path::Path};

/// Who holds the lock on a pidfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: no lightningd runs there.
    Nobody,
    /// The process of this id.
    Process(u32),
    /// A process whose id cannot be seen from here, as in another container.
    Unseen,
}

/// Asks who holds the lock, without touching it. The number in the file is not read: it outlives the process.
///
/// A process does not see locks of its own, and it loses them all on a file when it closes that file anywhere: this
/// must never run inside lightningd itself. Errors are those of opening the file, other than that it is not there.
pub fn holder(path: &Path) -> io::Result<Holder> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(Holder::Nobody);
    }
    // 0 where the process is in another namespace, -1 for a lock of an open file rather than of a process.
    Ok(match u32::try_from(lock.l_pid) {
        Ok(pid) if pid > 0 => Holder::Process(pid),
        _ => Holder::Unseen,
    })
}

/// A lock for writing on all of a file, however long it becomes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the C constants fit the field of the C struct"
)]
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pidfile_that_is_missing_or_left_over_is_held_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lightningd-regtest.pid");
        assert_eq!(holder(&path).unwrap(), Holder::Nobody);
        std::fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Nobody);
    }

    /// A lock of an open file stands in for another process: `F_GETLK` reports both.
    #[test]
    fn a_locked_pidfile_is_held_and_asking_does_not_unlock_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lightningd-regtest.pid");
        let held = File::create(&path).unwrap();
        fcntl(&held, FcntlArg::F_OFD_SETLK(&whole_file())).unwrap();
        assert_eq!(holder(&path).unwrap(), Holder::Unseen);
        assert_eq!(holder(&path).unwrap(), Holder::Unseen);
        drop(held);
        assert_eq!(holder(&path).unwrap(), Holder::Nobody);
    }
}
