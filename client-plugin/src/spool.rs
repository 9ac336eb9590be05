//! `backstop/spool`: updates that the node acted on while too few servers answered (SPEC 8.10, I2).
//!
//! ```text
//! offset  size  field
//!      0     8  "BKSPOOL" and the version, 1
//!      8     8  when it was begun, milliseconds since 1970
//!     16     …  the records, in the order of the chain: length (4 bytes), SHA-256 (32), the sealed record
//! ```
//!
//! The file is begun whole and grows by one record at a time, each flushed before lightningd may commit. So after a crash at most
//! its last record is torn, and that one was never answered.

mod on_top;

pub use on_top::{OnTop, Source};

use backstop_protocol::{
    clock::UnixMillis,
    head::Head,
    id::{RecordHash, TimelineId},
    record::{RecordHeader, record_hash},
};
use bytes::Bytes;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"BKSPOOL\x01";
/// Bytes before the first record.
const START: usize = 16;
/// Bytes before each record.
const PREFIX: usize = 36;
const MODE: u32 = 0o600;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The operating system refused.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What is in it is not what was written.
    #[error("{path} is damaged: {reason}", path = .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// One record of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The clear part.
    pub header: RecordHeader,
    /// The head of a chain that ends in it.
    pub head: Head,
    /// All of it.
    pub sealed: Bytes,
}

/// What is in a spool: at least one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// When it was begun, by this machine's clock.
    pub since: UnixMillis,
    /// The records, in order, each of which names the one before.
    pub records: Vec<Entry>,
    /// Bytes of the file up to the end of the last whole record.
    pub len: u64,
    /// Bytes after that: of a record that was never answered.
    pub torn: u64,
}

/// The chain on the servers is not the one that the spool goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the backup does not end where the spool begins: another machine went on from there, or records were lost"
)]
pub struct Astray;

impl Spooled {
    /// Reads the bytes of a file; `None` where no record was ever whole.
    pub fn parse(bytes: &Bytes) -> Result<Option<Self>, &'static str> {
        let Some(begin) = bytes.first_chunk::<START>() else {
            // It is begun whole: this was never one.
            return if MAGIC.starts_with(bytes.get(..MAGIC.len()).unwrap_or(bytes)) {
                Ok(None)
            } else {
                Err("it is no spool, or one of a version unknown to this program")
            };
        };
        let (magic, since) = begin.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err("it is no spool, or one of a version unknown to this program");
        }
        let since = since.try_into().map_or(0, u64::from_be_bytes);
        let (mut records, mut at) = (Vec::<Entry>::new(), START);
        while let Some(entry) = entry_at(bytes, at) {
            if records.last().is_some_and(|last| !last.leads_to(&entry)) {
                return Err("its records are not one chain");
            }
            at += PREFIX + entry.sealed.len();
            records.push(entry);
        }
        // Each record is flushed before the next one is written: behind a torn one there is nothing.
        if (at + 1..bytes.len())
            .any(|later| looks_like_entry(bytes, later) && entry_at(bytes, later).is_some())
        {
            return Err("a record in the middle of it is not whole");
        }
        let torn = bytes.len() - at;
        Ok((!records.is_empty()).then(|| Self {
            since: UnixMillis(since),
            records,
            len: at as u64,
            torn: torn as u64,
        }))
    }

    /// Reads a file; `None` where it is not there or holds no record.
    pub fn read(path: &Path) -> Result<Option<Self>, SpoolError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes.into()).map_err(|reason| SpoolError::Bad {
                path: path.to_owned(),
                reason,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SpoolError::Io {
                path: path.to_owned(),
                error,
            }),
        }
    }

    /// The records that a server lacks whose log of `timeline` ends in `head`; none where it has them all.
    pub fn after(&self, timeline: Option<TimelineId>, head: Head) -> Result<&[Entry], Astray> {
        let first = self.records.first().ok_or(Astray)?;
        if timeline != Some(first.header.timeline) {
            return Err(Astray);
        }
        if first.header.prev == head.hash
            && first.header.seq == head.seq.saturating_add(1)
            && first.header.epoch >= head.epoch
        {
            return Ok(&self.records);
        }
        let at = self.records.iter().position(|entry| entry.head == head);
        at.and_then(|at| self.records.get(at + 1..)).ok_or(Astray)
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Head {
        self.records.last().map_or(Head::EMPTY, |last| last.head)
    }
}

impl Entry {
    /// A sealed record.
    #[must_use]
    pub fn of(sealed: Bytes) -> Option<Self> {
        let header = RecordHeader::parse(&sealed).ok()?;
        Some(Self {
            header,
            head: header.head(record_hash(&sealed)),
            sealed,
        })
    }

    fn leads_to(&self, next: &Self) -> bool {
        next.header.prev == self.head.hash
            && next.header.seq == self.header.seq.saturating_add(1)
            && next.header.epoch >= self.header.epoch
            && next.header.timeline == self.header.timeline
    }
}

/// The whole record at this place of a file.
fn entry_at(bytes: &Bytes, at: usize) -> Option<Entry> {
    let prefix = bytes.get(at..at.checked_add(PREFIX)?)?;
    let (len, hash) = prefix.split_first_chunk::<4>()?;
    let start = at + PREFIX;
    let end = start.checked_add(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    if end > bytes.len() {
        return None;
    }
    let entry = Entry::of(bytes.slice(start..end))?;
    (entry.head.hash == RecordHash(hash.try_into().ok()?)).then_some(entry)
}

fn looks_like_entry(bytes: &Bytes, at: usize) -> bool {
    bytes
        .get(at + PREFIX..)
        .is_some_and(|rest| rest.starts_with(b"BKSP"))
}

/// A spool that is written to.
pub struct SpoolFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl SpoolFile {
    /// Begins one with its first record: after a power cut there is either nothing or all of it.
    pub fn begin(path: &Path, since: UnixMillis, first: &Entry) -> io::Result<Self> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&since.0.to_be_bytes());
        push(&mut bytes, first)?;
        crate::durable::write(path, &bytes, MODE)?;
        Ok(Self {
            path: path.to_owned(),
            file: OpenOptions::new().append(true).open(path)?,
            len: bytes.len() as u64,
        })
    }

    /// Adds a record; on the disk once this returns. What a failure leaves is cut off again; where that fails too, the file must not
    /// be written to any more, and holds a torn record at worst.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(PREFIX + entry.sealed.len());
        push(&mut bytes, entry)?;
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds nothing; never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that a record takes in a file.
    #[must_use]
    pub fn cost(sealed: &Bytes) -> u64 {
        (PREFIX + sealed.len()) as u64
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes a spool whose records the servers hold; for good once this returns.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => crate::durable::sync_parent(path),
    }
}

fn push(bytes: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
    let len = u32::try_from(entry.sealed.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&entry.head.hash.0);
    bytes.extend_from_slice(&entry.sealed);
    Ok(())
}

#[cfg(test)]
mod tests;
