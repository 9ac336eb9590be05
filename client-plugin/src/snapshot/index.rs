//! The ids of all chunks of one database file.

use super::chunk::{CHUNK_LEN, Chunker, LIST_IDS};
use backstop_protocol::{chunk::ChunkKind, id::ChunkId};
use std::{fs::File, io, os::unix::fs::FileExt};

/// The ids of a file's chunks in file order, and of the lists that hold those ids: 32 bytes of memory for 16 KiB of
/// database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Length of the file, bytes.
    pub database_len: u64,
    /// Data chunks, in file order.
    pub data: Vec<ChunkId>,
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

impl Index {
    /// Reads the file once. Lets other tasks of the same thread go on between the chunks.
    pub async fn of(file: &File, chunker: &Chunker<'_>) -> io::Result<Self> {
        let database_len = file.metadata()?.len();
        let mut data = Vec::new();
        let mut buffer = vec![0; CHUNK_LEN];
        for at in 0..chunks(database_len)? {
            let piece = read_data(file, database_len, at, &mut buffer)?;
            data.push(chunker.id(ChunkKind::Data, piece));
            tokio::task::yield_now().await;
        }
        let lists = data
            .chunks(LIST_IDS)
            .map(|ids| chunker.id(ChunkKind::List, &list(ids)))
            .collect();
        Ok(Self {
            database_len,
            data,
            lists,
        })
    }

    /// Every chunk once, sorted by id: the order says nothing about the file.
    #[must_use]
    pub fn pieces(&self) -> Vec<Piece> {
        let pieces = |ids: &[ChunkId], is_list| {
            let numbered = ids.iter().zip(0_u32..);
            numbered
                .map(|(id, at)| Piece { id: *id, is_list, at })
                .collect::<Vec<_>>()
        };
        let mut all = pieces(&self.data, false);
        all.extend(pieces(&self.lists, true));
        all.sort_unstable();
        all.dedup_by_key(|piece| piece.id);
        all
    }

    /// Length of a piece's plaintext, bytes.
    #[must_use]
    pub fn piece_len(&self, piece: &Piece) -> usize {
        if !piece.is_list {
            return data_len(self.database_len, piece.at);
        }
        let before = LIST_IDS.saturating_mul(piece.at as usize);
        self.data.len().saturating_sub(before).min(LIST_IDS) * ChunkId::LEN
    }

    /// The plaintext of a piece, read from the file again where it is data.
    pub fn read<'b>(&self, file: &File, piece: &Piece, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        if piece.is_list {
            let from = usize::try_from(piece.at)
                .unwrap_or(usize::MAX)
                .saturating_mul(LIST_IDS);
            let rest = self.data.get(from..).unwrap_or_default();
            *buffer = list(rest.get(..LIST_IDS).unwrap_or(rest));
            return Ok(buffer);
        }
        buffer.resize(CHUNK_LEN, 0);
        read_data(file, self.database_len, piece.at, buffer)
    }
}

/// Number of data chunks of a file.
fn chunks(database_len: u64) -> io::Result<u32> {
    let count = database_len.div_ceil(CHUNK_LEN as u64);
    u32::try_from(count).map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "above 64 TiB"))
}

/// Length of the data chunk at place `at`, bytes; zero beyond the end.
pub(super) fn data_len(database_len: u64, at: u32) -> usize {
    let rest = database_len.saturating_sub(u64::from(at) * CHUNK_LEN as u64);
    usize::try_from(rest).map_or(CHUNK_LEN, |rest| rest.min(CHUNK_LEN))
}

fn read_data<'b>(file: &File, database_len: u64, at: u32, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let piece = buffer.get_mut(..data_len(database_len, at)).unwrap_or_default();
    file.read_exact_at(piece, u64::from(at) * CHUNK_LEN as u64)?;
    Ok(piece)
}

fn list(ids: &[ChunkId]) -> Vec<u8> {
    backstop_protocol::chunk::encode_ids(ids)
}
