//! `runs`: which runs wrote from this directory, and how the last one ended.
//!
//! Two questions rest on it. Was a record in the backup written by this very directory? Then a database that lost it
//! may be brought forward (I5). Is this the directory that wrote, or a copy of it? A copy has another inode or
//! another machine, and must be adopted by hand (I7).

use super::{Directory, DirectoryError, MODE};
use crate::record::Policy;
use backstop_protocol::id::RunId;
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

const FILE: &str = "runs";
/// How many runs are remembered. Only those since the last clean end matter, and each of them met a server.
const REMEMBERED: usize = 256;

/// Where a directory is: changes when it is copied, not when the machine restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Inode of the `runs` file itself.
    pub inode: u64,
    /// `/etc/machine-id`; empty where there is none.
    pub machine: String,
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// Version of this file, 1.
    pub version: u8,
    /// Where the directory was when this was written.
    pub place: Place,
    /// The kernel's boot id when this was written: tells a crash of the process from one of the machine.
    pub boot: String,
    /// Whether the last run saw lightningd shut down in order, so that nothing acknowledged is uncommitted.
    pub clean: bool,
    /// Whether a run migrated the schema and no snapshot was taken since. lightningd then rewrites the file without a
    /// word (`VACUUM`), which may renumber the rows of tables that have no key of their own.
    #[serde(default)]
    pub migrated: bool,
    /// The runs, oldest first; the last is the present or latest one.
    pub runs: Vec<RunId>,
}

impl Runs {
    /// Whether `run` wrote from this directory.
    #[must_use]
    pub fn knows(&self, run: RunId) -> bool {
        self.runs.contains(&run)
    }
}

impl Directory {
    /// The runs so far; `None` where none ever wrote.
    pub fn runs(&self) -> Result<Option<Runs>, DirectoryError> {
        let Some(text) = self.read_if_there(FILE)? else {
            return Ok(None);
        };
        let runs: Runs = serde_json::from_str(&text).map_err(|error| self.bad(FILE, error.to_string()))?;
        if runs.version == 1 {
            Ok(Some(runs))
        } else {
            Err(self.bad(FILE, "a version unknown to this program"))
        }
    }

    /// Whether this is a copy of the directory that wrote `runs`.
    pub fn is_copied(&self, runs: &Runs) -> Result<bool, DirectoryError> {
        let path = self.path.join(FILE);
        let inode = std::fs::metadata(path)
            .map_err(|error| self.io(FILE, error))?
            .ino();
        Ok(runs.place
            != Place {
                inode,
                machine: machine_id(),
            })
    }

    /// Writes down that `run` is about to write; durable before its first record exists.
    pub fn begin_run(&self, run: RunId) -> Result<(), DirectoryError> {
        let before = self.runs()?;
        let migrated = before.as_ref().is_some_and(|before| before.migrated);
        let mut runs = match before {
            // After a clean end no record of an earlier run can be missing from the database but of the last one.
            Some(before) if before.clean => before.runs.last().copied().into_iter().collect(),
            Some(before) => before.runs,
            None => Vec::new(),
        };
        if !runs.contains(&run) {
            runs.push(run);
        }
        let surplus = runs.len().saturating_sub(REMEMBERED);
        runs.drain(..surplus);
        self.write_runs(false, migrated, runs)
    }

    /// Writes down that the present run ended in order.
    pub fn end_run(&self) -> Result<(), DirectoryError> {
        match self.runs()? {
            Some(before) => self.write_runs(true, before.migrated, before.runs),
            None => Ok(()),
        }
    }

    /// Writes down that the present run migrated the schema, or that a snapshot was taken since.
    pub fn set_migrated(&self, migrated: bool) -> Result<(), DirectoryError> {
        match self.runs()? {
            Some(before) if before.migrated != migrated => {
                self.write_runs(before.clean, migrated, before.runs)
            }
            _ => Ok(()),
        }
    }

    /// Says that this directory, wherever it is now, is the one that writes; what earlier runs wrote is forgotten.
    pub fn reset_runs(&self) -> Result<(), DirectoryError> {
        self.write_runs(true, false, Vec::new())
    }

    fn write_runs(&self, clean: bool, migrated: bool, runs: Vec<RunId>) -> Result<(), DirectoryError> {
        // The file holds its own inode, so it is made first and filled then.
        let (path, temporary) = (self.path.join(FILE), self.path.join("runs.new"));
        let write = || -> std::io::Result<()> {
            let mut file: File = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(MODE)
                .open(&temporary)?;
            let place = Place {
                inode: file.metadata()?.ino(),
                machine: machine_id(),
            };
            let content = Runs {
                version: 1,
                place,
                boot: boot_id(),
                clean,
                migrated,
                runs,
            };
            serde_json::to_writer(&mut file, &content)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            crate::durable::rename(&temporary, &path)
        };
        write().map_err(|error| self.io(FILE, error))
    }
}

fn machine_id() -> String {
    read_line("/etc/machine-id")
}

/// Names this life of the machine; empty where the kernel does not tell.
pub(crate) fn boot_id() -> String {
    read_line("/proc/sys/kernel/random/boot_id")
}

/// Names this machine and a directory on it, for a person who asks which one took a node over. Fits a policy record.
pub(crate) fn machine(dir: &Path) -> String {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let named = format!("{}, {}", read_line("/proc/sys/kernel/hostname"), dir.display());
    let mut by = String::new();
    for char in named.chars().filter(|char| !char.is_control()) {
        if by.len() + char.len_utf8() > Policy::BY_MAX {
            break;
        }
        by.push(char);
    }
    by
}

/// A line of a file that not every machine has.
fn read_line(path: &str) -> String {
    std::fs::read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .unwrap_or_default()
}
