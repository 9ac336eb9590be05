//! Bytes on the disk behind SQLite's back, for crashes and power cuts; and disks that are full.

use anyhow::{Context, Result};
use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The path with `suffix` behind its name.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A file's bytes, if it is there. Never for a database that is open in this process: see [`read_open`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The bytes of an open file, without closing a handle of it: that would drop SQLite's locks.
pub fn read_open(file: &File) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Changes a bit inside the first sealed chunk of a pack. What stands before it, the preamble and an entry's id and length (SPEC 6.2), is
/// nothing that a restore reads.
pub fn damage_pack(pack: &Path) -> Result<()> {
    let mut bytes = std::fs::read(pack)?;
    let byte = bytes.get_mut(6 + 32 + 4 + 8).context("an empty pack")?;
    *byte ^= 1;
    Ok(std::fs::write(pack, bytes)?)
}

/// Replaces a file's bytes and keeps its inode.
pub fn write_in_place(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    Ok(file.write_all(bytes)?)
}

/// Makes a file hold these bytes, or not be there.
pub fn put(path: &Path, bytes: Option<Vec<u8>>) -> Result<()> {
    match bytes {
        Some(bytes) => write_in_place(path, &bytes),
        None => remove(path),
    }
}

/// Whether a rollback journal has its header, so that SQLite would roll it back.
pub fn is_hot(journal: &Path) -> Result<bool> {
    let bytes = read(journal)?;
    Ok(bytes.is_some_and(|bytes| bytes.starts_with(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7])))
}

/// A write-ahead log cut off before the frames of its last `commits` transactions; nothing where it holds fewer.
/// <https://sqlite.org/fileformat2.html#walformat>: a 32-byte header, then frames of 24 bytes and a page; a frame
/// whose second word is not zero ends a transaction; frames of an older round have other salts.
#[must_use]
pub fn wal_without_last_commits(wal: &[u8], commits: u64) -> Option<Vec<u8>> {
    let word = |at: usize| Some(u32::from_be_bytes(wal.get(at..at + 4)?.try_into().ok()?));
    let page = usize::try_from(word(8)?).ok()?;
    let salts = wal.get(16..24)?;
    let mut ends = vec![32];
    let mut at = 32;
    while wal.get(at + 8..at + 16) == Some(salts) && wal.len() >= at + 24 + page {
        let ends_transaction = word(at + 4)? != 0;
        at += 24 + page;
        if ends_transaction {
            ends.push(at);
        }
    }
    let keep = ends.len().checked_sub(1 + usize::try_from(commits).ok()?)?;
    wal.get(..*ends.get(keep)?).map(<[u8]>::to_vec)
}

/// Copies a closed database with its `-journal` and `-wal` under the same names into another directory.
pub fn copy_database(from: &Path, into: &Path) -> Result<PathBuf> {
    let to = into.join(from.file_name().context("a database has a name")?);
    for suffix in ["", "-journal", "-wal"] {
        put(&beside(&to, suffix), read(&beside(from, suffix))?)?;
    }
    Ok(to)
}

/// Copies a directory with everything in it under a new name, which must be free.
pub fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    anyhow::ensure!(done.success(), "cp -a {} {}", from.display(), to.display());
    Ok(())
}

/// The words before a command that give it, and nobody else, a file system of its own at `directory` with room for so many
/// bytes. `None` where this machine does not allow that.
#[must_use]
pub fn with_room(bytes: u64, directory: &Path) -> Option<Vec<String>> {
    let mount = format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\"");
    let may = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &mount])
        .arg(directory)
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        return None;
    }
    let words = ["unshare", "-Urm", "sh", "-c", &format!("{mount} && exec \"$@\"")];
    let mut words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    words.push(directory.to_str()?.to_owned());
    Some(words)
}

/// A path as a running process sees it.
pub fn inside(process: u32, path: &Path) -> Result<PathBuf> {
    let root = PathBuf::from(format!("/proc/{process}/root"));
    Ok(root.join(path.strip_prefix("/").context("an absolute path")?))
}

/// A file that takes all the room of its file system but `rest` bytes.
pub fn fill(file: &Path, rest: u64) -> Result<()> {
    let mut ballast = File::create(file)?;
    while ballast.write_all(&[7; 4096]).is_ok() {}
    let len = ballast.metadata()?.len();
    Ok(ballast.set_len(len.saturating_sub(rest))?)
}
