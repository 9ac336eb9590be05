//! From a snapshot on a server to a database file, every byte of it checked (SPEC 6.5, I9).

use super::{
    chunk::{BadChunk, CHUNK_LEN, Chunker, LIST_IDS},
    index::{Piece, data_len, list_len},
    manifest::Manifest,
    scratch::{Scratch, ScratchError},
    server::ChunkServer,
    spot::Spot,
};
use crate::{keys::Keys, remote::RemoteError, replay::SqliteError};
use backstop_protocol::{
    api::{LOCATE_MAX, PACK_MAX, PACK_TARGET, SEALED_CHUNK_MAX, SEALED_CHUNK_MIN},
    chunk::{ChunkKind, parse_ids},
    id::{ChunkId, PackId, SnapshotId},
    problem::ProblemCode,
};
use rusqlite::{OptionalExtension as _, params};
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

/// Most bytes of a pack that are asked for at once: a whole pack as this program makes them.
const RUN_MAX: usize = PACK_TARGET + SEALED_CHUNK_MAX;
/// Up to how many bytes that nobody needs are taken along, rather than asking twice.
const GAP_MAX: u32 = 128 << 10;

/// Why the database could not be put together. The file is removed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server does not have a piece.
    #[error("the server does not have {0}")]
    Missing(Spot),
    /// The server gave something else than the piece.
    #[error("the server gave a bad copy of {spot}: {reason}")]
    Damaged {
        /// Which.
        spot: Spot,
        /// What is wrong with it.
        reason: BadChunk,
    },
    /// The server said that a piece lies where none can lie.
    #[error("the server names an impossible place for {0}")]
    Place(Spot),
    /// The server did not answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The file could not be written.
    #[error("the database file could not be written: {0}")]
    Io(#[from] io::Error),
    /// The list of chunks beside the file could not be kept.
    #[error("the list of what is to be downloaded could not be kept: {0}")]
    Scratch(#[from] ScratchError),
}

impl From<SqliteError> for FetchError {
    fn from(error: SqliteError) -> Self {
        Self::Scratch(error.into())
    }
}

impl From<rusqlite::Error> for FetchError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Scratch(error.into())
    }
}

/// Writes the database of `manifest` to `to`, a file that must not exist yet, and flushes it. `progress` hears how many
/// bytes of the database are there, of how many.
pub async fn fetch(
    server: &impl ChunkServer,
    keys: &Keys,
    manifest: &Manifest,
    to: &Path,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<(), FetchError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    let fetched = async {
        let mut fetcher = Fetcher::beside(server, keys, manifest, to)?;
        for (id, at) in manifest.lists.iter().zip(0..) {
            want(&fetcher.scratch, ChunkKind::List, *id, at)?;
        }
        fetcher.fetch(ChunkKind::List, &mut want_listed).await?;
        let total = manifest.database_len;
        file.set_len(total)?;
        let mut done = 0;
        progress(done, total);
        let mut write = |_: &Scratch, at: u32, piece: &[u8]| {
            file.write_all_at(piece, u64::from(at) * CHUNK_LEN as u64)?;
            done += piece.len() as u64;
            progress(done, total);
            Ok(())
        };
        fetcher.fetch(ChunkKind::Data, &mut write).await?;
        file.sync_all()?;
        Ok(())
    }
    .await;
    if fetched.is_err() {
        // The half-written file is ours and of no use; the first error is the one to report.
        let _ = std::fs::remove_file(to);
    }
    fetched
}

const TABLES: &str = "
    -- What is still to be fetched, with all its places among those of its kind.
    CREATE TABLE place (kind INTEGER NOT NULL, id BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (kind, id, at)) WITHOUT ROWID;
    -- Where that lies on the server.
    CREATE TABLE located (pack BLOB NOT NULL, start INTEGER NOT NULL, len INTEGER NOT NULL, id BLOB NOT NULL,
        PRIMARY KEY (pack, start, id)) WITHOUT ROWID;
";

/// Fetches chunks and opens them. What it knows about each lies on disk.
pub(super) struct Fetcher<'a, 'k, S> {
    server: &'a S,
    chunker: Chunker<'k>,
    snapshot: SnapshotId,
    /// Length of the database, bytes.
    database_len: u64,
    scratch: Scratch,
}

/// What is done with a chunk that came: for its place, with what is known about the others.
type Keep<'f> = dyn FnMut(&Scratch, u32, &[u8]) -> Result<(), FetchError> + Send + 'f;

/// Notes that the next fetch is to bring a chunk, for this place.
fn want(scratch: &Scratch, kind: ChunkKind, id: ChunkId, at: u32) -> Result<(), FetchError> {
    scratch.execute(
        "INSERT OR IGNORE INTO place VALUES (?1, ?2, ?3)",
        params![kind as u8, id.0, at],
    )?;
    Ok(())
}

/// The same for all chunks of a list.
fn want_listed(scratch: &Scratch, at: u32, list: &[u8]) -> Result<(), FetchError> {
    let ids = parse_ids(list, LIST_IDS).map_err(io::Error::other)?;
    let first = u32::try_from(LIST_IDS).unwrap_or(u32::MAX).saturating_mul(at);
    for (id, at) in ids.into_iter().zip(first..) {
        want(scratch, ChunkKind::Data, id, at)?;
    }
    Ok(())
}

/// A chunk within a pack.
struct Located {
    start: u32,
    len: u32,
    id: ChunkId,
}

impl Located {
    fn end(&self) -> u32 {
        self.start.saturating_add(self.len)
    }
}

impl<'a, 'k, S: ChunkServer> Fetcher<'a, 'k, S> {
    /// For the chunks of a whole database, which is to be written to `to`.
    fn beside(server: &'a S, keys: &'k Keys, manifest: &Manifest, to: &Path) -> Result<Self, FetchError> {
        let scratch = Scratch::beside(to, TABLES)?;
        Ok(Self::with(
            server,
            keys,
            manifest.snapshot,
            manifest.database_len,
            scratch,
        ))
    }

    /// For few chunks.
    pub(super) fn small(
        server: &'a S,
        keys: &'k Keys,
        snapshot: SnapshotId,
        database_len: u64,
    ) -> Result<Self, FetchError> {
        Ok(Self::with(
            server,
            keys,
            snapshot,
            database_len,
            Scratch::small(TABLES)?,
        ))
    }

    fn with(
        server: &'a S,
        keys: &'k Keys,
        snapshot: SnapshotId,
        database_len: u64,
        scratch: Scratch,
    ) -> Self {
        Self {
            server,
            chunker: Chunker::new(keys),
            snapshot,
            database_len,
            scratch,
        }
    }

    /// Fetches some chunks of one kind and checks them; nothing is kept.
    pub(super) async fn fetch_some(
        &mut self,
        kind: ChunkKind,
        pieces: impl Iterator<Item = &Piece>,
    ) -> Result<(), FetchError> {
        for piece in pieces {
            want(&self.scratch, kind, piece.id, piece.at)?;
        }
        self.fetch(kind, &mut |_, _, _| Ok(())).await
    }

    /// Fetches each distinct chunk of a kind that is wanted once, and hands it to `keep` with each of its places.
    async fn fetch(&mut self, kind: ChunkKind, keep: &mut Keep<'_>) -> Result<(), FetchError> {
        let mut moved = None;
        loop {
            let wanted = self.locate(kind).await?;
            if wanted == 0 {
                return Ok(());
            }
            if let Err(error) = self.fetch_located(kind, keep).await {
                // The server may have gathered chunks into another pack since they were located (SPEC 6.6): they are
                // located again as long as that leads on.
                if !is_gone(&error) || moved == Some(wanted) {
                    return Err(error);
                }
                moved = Some(wanted);
            }
        }
    }

    async fn fetch_located(&mut self, kind: ChunkKind, keep: &mut Keep<'_>) -> Result<(), FetchError> {
        let mut pack = None;
        while let Some(next) = self.pack_after(pack)? {
            pack = Some(next);
            let located = self.located_in(next)?;
            let mut rest = located.as_slice();
            while let Some(first) = rest.first() {
                let run;
                (run, rest) = rest.split_at(run_len(rest));
                let end = run.last().map_or(first.end(), Located::end);
                let range = (first.start, end.saturating_sub(first.start));
                let bytes = self.server.get_pack(next, Some(range)).await?;
                for located in run {
                    let from = located.start.saturating_sub(first.start) as usize;
                    let sealed = bytes.get(from..).unwrap_or_default();
                    let sealed = sealed.get(..located.len as usize).unwrap_or(sealed);
                    self.open(kind, located.id, sealed, keep)?;
                }
            }
        }
        Ok(())
    }

    /// The next of the packs, by name.
    fn pack_after(&self, pack: Option<PackId>) -> Result<Option<PackId>, FetchError> {
        let mut statement = self
            .scratch
            .statement("SELECT pack FROM located WHERE pack > ?1 ORDER BY pack LIMIT 1")?;
        let after = pack.as_ref().map_or(&[][..], |pack| &pack.0);
        let next = statement.query_row(params![after], |row| Ok(PackId(row.get(0)?)));
        Ok(next.optional()?)
    }

    /// What is wanted of a pack, in its order.
    fn located_in(&self, pack: PackId) -> Result<Vec<Located>, FetchError> {
        let mut statement = self
            .scratch
            .statement("SELECT start, len, id FROM located WHERE pack = ?1 ORDER BY start")?;
        let rows = statement.query_map(params![pack.0], |row| {
            Ok(Located {
                start: row.get(0)?,
                len: row.get(1)?,
                id: ChunkId(row.get(2)?),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn open(
        &mut self,
        kind: ChunkKind,
        id: ChunkId,
        sealed: &[u8],
        keep: &mut Keep<'_>,
    ) -> Result<(), FetchError> {
        for at in self.places(kind, id)? {
            let len = match kind {
                ChunkKind::Data => data_len(self.database_len, at),
                ChunkKind::List => list_len(self.database_len, at),
            };
            let spot = self.spot(kind, at);
            let opened = self.chunker.open(kind, id, sealed, len);
            keep(
                &self.scratch,
                at,
                &opened.map_err(|reason| FetchError::Damaged { spot, reason })?,
            )?;
        }
        self.scratch.execute(
            "DELETE FROM place WHERE kind = ?1 AND id = ?2",
            params![kind as u8, id.0],
        )?;
        Ok(())
    }

    fn places(&self, kind: ChunkKind, id: ChunkId) -> Result<Vec<u32>, FetchError> {
        let mut statement = self
            .scratch
            .statement("SELECT at FROM place WHERE kind = ?1 AND id = ?2 ORDER BY at")?;
        let rows = statement.query_map(params![kind as u8, id.0], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Asks where everything lies that is wanted; how many chunks that are.
    async fn locate(&mut self, kind: ChunkKind) -> Result<usize, FetchError> {
        self.scratch.execute("DELETE FROM located", [])?;
        let mut wanted = 0;
        let mut page = self.wanted_after(kind, None)?;
        while let Some((last, _)) = page.last() {
            let last = *last;
            wanted += page.len();
            let ids: Vec<_> = page.iter().map(|(id, _)| *id).collect();
            let places = self.server.locate(&ids).await?;
            let mut places = places.into_iter();
            for (id, at) in page {
                let spot = self.spot(kind, at);
                let place = places.next().flatten().ok_or(FetchError::Missing(spot))?;
                let end = (place.offset as usize).saturating_add(place.len as usize);
                if !(SEALED_CHUNK_MIN..=SEALED_CHUNK_MAX).contains(&(place.len as usize)) || end > PACK_MAX {
                    return Err(FetchError::Place(spot));
                }
                self.scratch.execute(
                    "INSERT OR IGNORE INTO located VALUES (?1, ?2, ?3, ?4)",
                    params![place.pack.0, place.offset, place.len, id.0],
                )?;
            }
            page = self.wanted_after(kind, Some(last))?;
        }
        Ok(wanted)
    }

    /// The next distinct chunks that are wanted, by name, each with its first place.
    fn wanted_after(
        &self,
        kind: ChunkKind,
        after: Option<ChunkId>,
    ) -> Result<Vec<(ChunkId, u32)>, FetchError> {
        let mut statement = self.scratch.statement(
            "SELECT id, min(at) FROM place WHERE kind = ?1 AND id > ?2 GROUP BY id ORDER BY id LIMIT ?3",
        )?;
        let after = after.as_ref().map_or(&[][..], |id| &id.0);
        let rows = statement.query_map(params![kind as u8, after, LOCATE_MAX], |row| {
            Ok((ChunkId(row.get(0)?), row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn spot(&self, kind: ChunkKind, at: u32) -> Spot {
        Spot {
            snapshot: self.snapshot,
            kind,
            at,
        }
    }
}

/// Whether a pack is not what it was when its chunks were located.
fn is_gone(error: &FetchError) -> bool {
    matches!(error, FetchError::Remote(error) if error.code() == Some(ProblemCode::NotFound))
}

/// How many of `located`, in the order of their pack, are fetched with one request; at least one where there is one.
fn run_len(located: &[Located]) -> usize {
    let Some(first) = located.first() else { return 0 };
    let fits = |pair: &[Located]| match pair {
        [a, b] => {
            b.start.saturating_sub(a.end()) <= GAP_MAX
                && b.end().saturating_sub(first.start) as usize <= RUN_MAX
        }
        _ => false,
    };
    1 + located.windows(2).take_while(|pair| fits(pair)).count()
}
