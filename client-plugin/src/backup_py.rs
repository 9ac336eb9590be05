//! The file of lightningd's `backup.py` plugin (its `file:` back end), for those who come from there.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | version of the file, 1 |
//! | 4 | 4 | version of the newest batch that counts |
//! | 8 | 504 | of no use here, then zeros |
//! | 512 | … | records: length u32, version u32, kind u8 (1 a batch, 2 a database), payload |
//!
//! A batch's payload is its statements with a zero byte between them. When lightningd repeats a version after a crash, `backup.py`
//! means to replace the batch that was never committed, but appends to it: both stand in the file. The one that counts is the
//! last of its version, and nothing above the version that the header names counts at all.

use crate::{plugin::predecessor, record::Batch};
use backstop_protocol::id::RunId;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

const HEADER_LEN: u64 = 512;
const RECORD_HEADER_LEN: u64 = 9;
const FILE_VERSION: u32 = 1;
/// The longest batch that is read, bytes; a longer one is not lightningd's.
const BATCH_MAX: u64 = 1 << 30;

/// Why a file is none of `backup.py`'s, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupPyError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not begin like one.
    #[error("it does not begin like a file of backup.py's: is it the right one?")]
    Header,
    /// A record is of no known kind, or too long.
    #[error("the record at byte {0} is none of backup.py's: the file is damaged there")]
    Record(u64),
}

/// What a file holds, without the payloads.
#[derive(Debug, PartialEq, Eq)]
pub struct Index {
    /// The newest database in it, from which a rebuild starts; nothing where it begins with an empty one.
    pub base: Option<Entry>,
    /// The batches after it that count, in order.
    pub batches: Vec<Entry>,
    /// How many batches were never committed and yet stand in the file.
    pub superseded: u64,
    /// Whether the last record was cut off.
    pub cut: bool,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The database's version after it.
    pub version: u32,
    /// Whether it holds PRAGMAs alone, which run outside any transaction.
    pub outside_transaction: bool,
    /// Where its payload begins, bytes.
    offset: u64,
    /// Its payload's length, bytes.
    len: u64,
}

/// An open file.
pub struct BackupPy {
    file: File,
}

impl BackupPy {
    /// Opens it; nothing in it is changed.
    pub fn open(path: &Path) -> Result<Self, BackupPyError> {
        Ok(Self {
            file: File::open(path)?,
        })
    }

    /// Reads through it once.
    pub fn index(&mut self) -> Result<Index, BackupPyError> {
        let file_len = self.file.metadata()?.len();
        if file_len < HEADER_LEN {
            return Err(BackupPyError::Header);
        }
        self.file.seek(SeekFrom::Start(0))?;
        let (format, newest) = (self.number()?, self.number()?);
        if format != FILE_VERSION {
            return Err(BackupPyError::Header);
        }
        let mut index = Index {
            base: None,
            batches: Vec::new(),
            superseded: 0,
            cut: false,
        };
        let mut at = HEADER_LEN;
        while at < file_len {
            if file_len - at < RECORD_HEADER_LEN {
                index.cut = true;
                break;
            }
            self.file.seek(SeekFrom::Start(at))?;
            let (len, version) = (u64::from(self.number()?), self.number()?);
            let mut kind = [0];
            self.file.read_exact(&mut kind)?;
            let mut entry = Entry {
                version,
                outside_transaction: false,
                offset: at + RECORD_HEADER_LEN,
                len,
            };
            let end = entry.offset + len;
            if !matches!(kind, [1 | 2]) || (kind == [1] && len > BATCH_MAX) {
                return Err(BackupPyError::Record(at));
            }
            if end > file_len {
                index.cut = true;
                break;
            }
            if kind == [2] {
                index.base = Some(entry);
                index.batches.clear();
            } else {
                let statements = self.statements(&entry)?;
                entry.outside_transaction = statements
                    .last()
                    .is_none_or(|statement| predecessor(statement).is_none());
                index.take(entry);
            }
            at = end;
        }
        let known = index.batches.len();
        index.batches.retain(|entry| entry.version <= newest);
        index.superseded += (known - index.batches.len()) as u64;
        Ok(index)
    }

    /// The batch of an entry, as of one run: the file does not tell runs apart.
    pub fn batch(&mut self, entry: &Entry) -> Result<Batch, BackupPyError> {
        Ok(Batch {
            run: RunId([0; RunId::LEN]),
            opens_run: false,
            outside_transaction: entry.outside_transaction,
            data_version: u64::from(entry.version),
            statements: self.statements(entry)?,
        })
    }

    /// Copies the payload of an entry that is a whole database.
    pub fn copy(&mut self, entry: &Entry, to: &mut File) -> Result<(), BackupPyError> {
        self.file.seek(SeekFrom::Start(entry.offset))?;
        io::copy(&mut (&mut self.file).take(entry.len), to)?;
        Ok(())
    }

    fn statements(&mut self, entry: &Entry) -> Result<Vec<Vec<u8>>, BackupPyError> {
        self.file.seek(SeekFrom::Start(entry.offset))?;
        let mut payload = Vec::new();
        (&mut self.file).take(entry.len).read_to_end(&mut payload)?;
        let parts = payload.split(|byte| *byte == 0);
        Ok(parts
            .filter(|part| !part.is_empty())
            .map(<[u8]>::to_vec)
            .collect())
    }

    fn number(&mut self) -> Result<u32, BackupPyError> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }
}

impl Index {
    /// Adds a batch; what it repeats was never committed.
    fn take(&mut self, entry: Entry) {
        if !entry.outside_transaction {
            while self
                .batches
                .last()
                .is_some_and(|last| last.version >= entry.version)
            {
                self.batches.pop();
                self.superseded += 1;
            }
        }
        self.batches.push(entry);
    }

    /// The version to which the file leads.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        let last = self.batches.last().or(self.base.as_ref());
        last.map(|entry| entry.version)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Files as `backup.py` writes them.

    /// The header.
    pub(crate) fn header(newest: u32) -> Vec<u8> {
        let mut bytes = [1_u32.to_be_bytes(), newest.to_be_bytes()].concat();
        bytes.resize(512, 0);
        bytes
    }

    /// A record.
    pub(crate) fn record(version: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap();
        [&len.to_be_bytes()[..], &version.to_be_bytes(), &[kind], payload].concat()
    }

    /// The batch that leads to a version.
    pub(crate) fn batch(version: u32, statements: &[&str]) -> Vec<u8> {
        let update = format!(
            "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {}",
            version - 1
        );
        let all = [statements, &[update.as_str()]].concat();
        record(version, 1, all.join("\0").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use proptest::prelude::*;

    fn index(bytes: &[u8]) -> Result<Index, BackupPyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        BackupPy::open(&path)?.index()
    }

    fn versions(index: &Index) -> Vec<(u32, bool)> {
        let entries = index.batches.iter();
        entries
            .map(|entry| (entry.version, entry.outside_transaction))
            .collect()
    }

    #[test]
    fn a_batch_that_was_repeated_counts_once_and_one_outside_a_transaction_beside_its_like() {
        let pragma = |version| record(version, 1, b"PRAGMA foreign_keys = OFF;");
        let file = [
            header(4),
            record(1, 2, b"database"),
            batch(2, &["a"]),
            pragma(2),
            batch(3, &["never committed"]),
            batch(3, &["b"]),
            batch(4, &["c"]),
        ];
        let index = index(&file.concat()).unwrap();
        assert_eq!(versions(&index), [(2, false), (2, true), (3, false), (4, false)]);
        assert_eq!(
            (index.superseded, index.cut, index.version()),
            (1, false, Some(4))
        );
    }

    #[test]
    fn what_lies_above_the_headers_version_was_taken_back() {
        let file = [
            header(2),
            batch(1, &[]),
            batch(2, &[]),
            batch(3, &["never committed"]),
        ];
        let index = index(&file.concat()).unwrap();
        assert_eq!((index.version(), index.superseded), (Some(2), 1));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_read_up_to_its_last_whole_record() {
        let whole = [header(2), batch(1, &["a"]), batch(2, &["b"])].concat();
        let first = 512 + batch(1, &["a"]).len();
        for len in 0..whole.len() {
            let found = index(&whole[..len]);
            if len < 512 {
                assert!(matches!(found, Err(BackupPyError::Header)), "{len}");
                continue;
            }
            let found = found.unwrap();
            assert_eq!(found.batches.len(), usize::from(len >= first), "{len}");
            assert_eq!(found.cut, len != 512 && len != first, "{len}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let kind = [header(1), record(1, 3, b"x")].concat();
        assert!(matches!(index(&kind), Err(BackupPyError::Record(512))));
        let mut other = header(1);
        other[3] = 2;
        assert!(matches!(index(&other), Err(BackupPyError::Header)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = index(&[header(9), bytes].concat());
        }
    }
}
