//! What a restore does with the files beside the database. CLN's recovery file goes to its place; the configuration
//! comes under another name, so that nothing that the operator did not look at takes effect. Nothing is written over.

use crate::{
    cli::when::Stamp,
    durable,
    files::{File, FileName, Files},
};
use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What became of one file.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is there now.
    Written,
    /// It was there already, the same.
    There,
    /// Another one was there, and stays.
    Other,
    /// The system refused.
    Failed(io::Error),
}

/// Where a file comes back to.
pub(super) fn target(name: &FileName, network_dir: &Path) -> PathBuf {
    let path = name.path(network_dir);
    if name.is_emergency() {
        return path;
    }
    let mut beside = OsString::from(path);
    beside.push(".from-backup");
    PathBuf::from(beside)
}

/// Brings one file back.
pub(super) fn bring_back(file: &File, network_dir: &Path) -> Fate {
    let to = target(&file.name, network_dir);
    let mode = if file.name.is_emergency() { 0o400 } else { 0o600 };
    match durable::write_new(&to, &file.bytes, mode) {
        Ok(()) => Fate::Written,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::read(&to) {
            Ok(bytes) if bytes == file.bytes => Fate::There,
            _ => Fate::Other,
        },
        Err(error) => Fate::Failed(error),
    }
}

/// Brings all of them back, and says what became of each. The database is in place by then: no failure here undoes it.
pub(super) fn bring_all_back(out: &mut dyn Write, files: &Files, network_dir: &Path) -> io::Result<()> {
    let mut head = "Files";
    for file in &files.files {
        let to = target(&file.name, network_dir);
        let path = to.display();
        let line = match bring_back(file, network_dir) {
            Fate::Written if file.name.is_emergency() => format!("{path}, CLN's last resort"),
            Fate::Written => format!("{path}: look at it, and rename it where it is wanted"),
            Fate::There => format!("{path} was there already"),
            Fate::Other => format!("{path}: another one is there and was left as it is"),
            Fate::Failed(error) => format!("{path} could not be written: {error}"),
        };
        writeln!(out, "{head:<10}{line}")?;
        head = "";
    }
    if !files.files.is_empty() {
        writeln!(out, "{head:<10}as they were at {}", Stamp(files.read_at))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::clock::UnixMillis;

    #[test]
    fn files_come_back_beside_what_is_there_and_never_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("regtest");
        fs::create_dir(&net).unwrap();
        fs::write(dir.path().join("config"), "mine").unwrap();
        let file = |name: &str, text: &str| File {
            name: name.parse().unwrap(),
            bytes: text.into(),
        };
        let mut files = Files {
            read_at: UnixMillis(0),
            files: vec![
                file("../config", "theirs"),
                file("config", "theirs too"),
                file("emergency.recover", "scb"),
            ],
        };
        let bring = |files: &Files| {
            let mut out = Vec::new();
            bring_all_back(&mut out, files, &net).unwrap();
            String::from_utf8(out).unwrap()
        };
        let said = bring(&files);
        assert!(
            said.contains("as they were at 1970-01-01T00:00:00.000Z"),
            "{said}"
        );
        let read = |name: &str| fs::read_to_string(net.join(name)).unwrap();
        let all = || {
            [
                read("../config"),
                read("../config.from-backup"),
                read("config.from-backup"),
                read("emergency.recover"),
            ]
        };
        assert_eq!(all(), ["mine", "theirs", "theirs too", "scb"]);
        assert!(!net.join("config").exists());
        assert_eq!(bring(&files).matches("was there already").count(), 3);
        for file in &mut files.files {
            file.bytes = b"newer".to_vec();
        }
        assert_eq!(bring(&files).matches("left as it is").count(), 3);
        assert_eq!(all(), ["mine", "theirs", "theirs too", "scb"]);
    }
}
