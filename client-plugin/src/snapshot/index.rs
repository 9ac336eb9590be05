//! The ids of all chunks of one database file.

use super::{
    chunk::{CHUNK_LEN, Chunker, LIST_IDS},
    known::KnownChunks,
    scratch::{Scratch, ScratchError},
};
use crate::replay::SqliteError;
use backstop_protocol::{
    chunk::{ChunkKind, encode_ids},
    id::ChunkId,
};
use rusqlite::{OptionalExtension as _, Row, params};
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

const TABLES: &str = "
    -- In file order.
    CREATE TABLE data (at INTEGER PRIMARY KEY, id BLOB NOT NULL);
    -- Each once, whatever it holds; `at` is its first place among those of its kind.
    CREATE TABLE chunk (id BLOB PRIMARY KEY, is_list INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
    -- What the server lacks.
    CREATE TABLE missing (id BLOB PRIMARY KEY) WITHOUT ROWID;
    -- What another snapshot has.
    CREATE TABLE parent (id BLOB PRIMARY KEY) WITHOUT ROWID;
";

/// The ids of a file's chunks, and of the lists that hold those ids, kept on disk.
#[derive(Debug)]
pub struct Index {
    scratch: Scratch,
    /// Length of the file, bytes.
    pub database_len: u64,
    /// List chunks, in the order of what they list.
    pub lists: Vec<ChunkId>,
}

/// One chunk of an index, by its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Its name.
    pub id: ChunkId,
    /// Whether it is a list.
    pub is_list: bool,
    /// Its place among those of its kind, from 0; the first one where the same content stands in several.
    pub at: u32,
}

impl Piece {
    /// What the chunk holds.
    #[must_use]
    pub fn kind(&self) -> ChunkKind {
        if self.is_list {
            ChunkKind::List
        } else {
            ChunkKind::Data
        }
    }
}

/// The chunks that two snapshots do not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Those of the file that the parent does not have.
    Added,
    /// Those of the parent that the file does not have.
    Removed,
}

impl Index {
    /// Reads the file once; what it finds lies beside `notes`.
    pub fn of(file: &File, notes: &Path, chunker: &Chunker) -> Result<Self, ScratchError> {
        let scratch = Scratch::beside(notes, TABLES)?;
        let database_len = file.metadata()?.len();
        let mut buffer = vec![0; CHUNK_LEN];
        for at in 0..chunks(database_len)? {
            let piece = read_data(file, database_len, at, &mut buffer)?;
            let id = chunker.id(ChunkKind::Data, piece);
            scratch.execute("INSERT INTO data VALUES (?1, ?2)", params![at, id.0])?;
            keep(&scratch, id, false, at)?;
        }
        let mut index = Self {
            scratch,
            database_len,
            lists: Vec::new(),
        };
        for (_, at) in (0..chunks(database_len)?).step_by(LIST_IDS).zip(0..) {
            let id = chunker.id(ChunkKind::List, &index.list(at)?);
            keep(&index.scratch, id, true, at)?;
            index.lists.push(id);
        }
        Ok(index)
    }

    /// How many chunks there are, each counted once.
    pub fn count(&self) -> Result<u64, SqliteError> {
        self.scratch.number("SELECT count(*) FROM chunk")
    }

    /// Hands over the ids of all chunks, sorted.
    pub(super) fn each(&self, take: &mut dyn FnMut(ChunkId) -> io::Result<()>) -> Result<(), ScratchError> {
        self.ids("SELECT id FROM chunk ORDER BY id", take)
    }

    fn ids(&self, sql: &str, take: &mut dyn FnMut(ChunkId) -> io::Result<()>) -> Result<(), ScratchError> {
        let mut statement = self.scratch.statement(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(ChunkId(row.get(0)?))?;
        }
        Ok(())
    }

    /// At most `most` chunks above `after`, sorted by id: the order says nothing about the file.
    pub fn pieces(&self, after: Option<ChunkId>, most: usize) -> Result<Vec<Piece>, SqliteError> {
        let mut statement = self
            .scratch
            .statement("SELECT id, is_list, at FROM chunk WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let after = after.as_ref().map_or(&[][..], |id| &id.0);
        let rows = statement.query_map(params![after, most], piece)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The chunk of that name, where it is one of this file's.
    pub fn piece(&self, id: ChunkId) -> Result<Option<Piece>, SqliteError> {
        let mut statement = self
            .scratch
            .statement("SELECT id, is_list, at FROM chunk WHERE id = ?1")?;
        Ok(statement.query_row(params![id.0], piece).optional()?)
    }

    /// Forgets what the server lacks.
    pub(super) fn none_missing(&self) -> Result<(), SqliteError> {
        self.scratch.execute("DELETE FROM missing", []).map(drop)
    }

    /// Notes that the server lacks a chunk of this file.
    pub(super) fn note_missing(&self, id: ChunkId) -> Result<(), SqliteError> {
        self.scratch
            .execute("INSERT OR IGNORE INTO missing VALUES (?1)", params![id.0])
            .map(drop)
    }

    /// How many chunks the server lacks.
    pub(super) fn missing_count(&self) -> Result<u64, SqliteError> {
        self.scratch.number("SELECT count(*) FROM missing")
    }

    /// At most `most` chunks above `after` that the server lacks, sorted by id.
    pub(super) fn missing(&self, after: Option<ChunkId>, most: usize) -> Result<Vec<Piece>, SqliteError> {
        let mut statement = self.scratch.statement(
            "SELECT id, is_list, at FROM missing JOIN chunk USING (id) WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let after = after.as_ref().map_or(&[][..], |id| &id.0);
        let rows = statement.query_map(params![after, most], piece)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Takes in the chunks of a snapshot to which this one's list is a difference.
    pub(super) fn compare_with(&self, parent: &KnownChunks) -> Result<(), ScratchError> {
        for id in parent.ids()? {
            self.scratch
                .execute("INSERT OR IGNORE INTO parent VALUES (?1)", params![id?.0])?;
        }
        Ok(())
    }

    /// How many chunks are on one side alone.
    pub(super) fn difference_len(&self, side: Side) -> Result<u64, SqliteError> {
        self.scratch.number(&format!("SELECT count(*) {}", from(side)))
    }

    /// The chunks that are on one side alone, sorted.
    pub(super) fn difference(
        &self,
        side: Side,
        take: &mut dyn FnMut(ChunkId) -> io::Result<()>,
    ) -> Result<(), ScratchError> {
        self.ids(&format!("SELECT id {} ORDER BY id", from(side)), take)
    }

    /// The content of a list.
    pub(super) fn list(&self, at: u32) -> Result<Vec<u8>, SqliteError> {
        let from = u64::from(at) * LIST_IDS as u64;
        let mut statement = self
            .scratch
            .statement("SELECT id FROM data WHERE at >= ?1 ORDER BY at LIMIT ?2")?;
        let rows = statement.query_map(params![from, LIST_IDS], |row| Ok(ChunkId(row.get(0)?)))?;
        Ok(encode_ids(&rows.collect::<Result<Vec<_>, _>>()?))
    }
}

fn keep(scratch: &Scratch, id: ChunkId, is_list: bool, at: u32) -> Result<(), SqliteError> {
    scratch
        .execute(
            "INSERT OR IGNORE INTO chunk VALUES (?1, ?2, ?3)",
            params![id.0, is_list, at],
        )
        .map(drop)
}

fn piece(row: &Row<'_>) -> rusqlite::Result<Piece> {
    Ok(Piece {
        id: ChunkId(row.get(0)?),
        is_list: row.get(1)?,
        at: row.get(2)?,
    })
}

fn from(side: Side) -> &'static str {
    match side {
        Side::Added => "FROM chunk WHERE NOT EXISTS (SELECT 1 FROM parent WHERE parent.id = chunk.id)",
        Side::Removed => "FROM parent WHERE NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.id = parent.id)",
    }
}

/// Number of data chunks of a file.
pub(super) fn chunks(database_len: u64) -> io::Result<u32> {
    let count = database_len.div_ceil(CHUNK_LEN as u64);
    u32::try_from(count).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "above 64 TiB"))
}

/// Length of a chunk of a file of that many bytes, by its place; zero beyond the end.
pub(super) fn chunk_len(database_len: u64, kind: ChunkKind, at: u32) -> usize {
    match kind {
        ChunkKind::Data => data_len(database_len, at),
        ChunkKind::List => list_len(database_len, at),
    }
}

fn data_len(database_len: u64, at: u32) -> usize {
    let rest = database_len.saturating_sub(u64::from(at) * CHUNK_LEN as u64);
    usize::try_from(rest).map_or(CHUNK_LEN, |rest| rest.min(CHUNK_LEN))
}

fn list_len(database_len: u64, at: u32) -> usize {
    let before = u64::from(at) * LIST_IDS as u64;
    let rest = database_len.div_ceil(CHUNK_LEN as u64).saturating_sub(before);
    usize::try_from(rest).map_or(LIST_IDS, |rest| rest.min(LIST_IDS)) * ChunkId::LEN
}

/// Reads the data chunk at place `at`.
pub(super) fn read_data<'b>(
    file: &File,
    database_len: u64,
    at: u32,
    buffer: &'b mut [u8],
) -> io::Result<&'b [u8]> {
    let piece = buffer.get_mut(..data_len(database_len, at)).unwrap_or_default();
    file.read_exact_at(piece, u64::from(at) * CHUNK_LEN as u64)?;
    Ok(piece)
}
