//! From a snapshot on a server to a database file, every byte of it checked (SPEC 6.5, I9).
//!
//! Several requests are on their way at once, and what came is opened and written on threads of its own: memory holds that many packs,
//! and what is known about each chunk lies on disk ([`super::scratch`]).

use super::{
    chunk::{BadChunk, CHUNK_LEN, Chunker, LIST_IDS},
    index::{chunks, read_data},
    kept::Kept,
    located::{Located, Opener, Run},
    manifest::Manifest,
    scratch::{Scratch, ScratchError},
    server::ChunkServer,
    spot::Spot,
    target::{Flushing, Target},
};
use crate::{blocking::blocking, keys::Keys, remote::RemoteError, replay::SqliteError};
use backstop_protocol::{
    api::LOCATE_MAX,
    chunk::{ChunkKind, parse_ids},
    id::{ChunkId, PackId},
    problem::ProblemCode,
};
use rusqlite::{OptionalExtension as _, params};
use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// Why the database could not be put together.
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

impl FetchError {
    /// Whether a pack is not what it was when its chunks were located.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Remote(error) if error.code() == Some(ProblemCode::NotFound))
    }
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
/// bytes of the database are there, of how many. On an error there is no file.
pub async fn fetch(
    server: &impl ChunkServer,
    keys: &Arc<Keys>,
    manifest: &Manifest,
    to: &Path,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<(), FetchError> {
    let target = Target::create(to)?;
    let fetched = async {
        let flushing = fetch_into(server, keys, manifest, (to, target), progress).await?;
        Ok(blocking(move || flushing.end()).await?)
    };
    let fetched = fetched.await;
    if fetched.is_err() {
        // The half-written file is ours and of no use; the first error is the one to report.
        let _ = std::fs::remove_file(to);
    }
    fetched
}

/// The same, to a file of the caller's own in which an earlier attempt may have left anything: each piece that stands in its place
/// already is not fetched again. On an error the file stays, for the next attempt. What it returns is the flush of the complete file,
/// which may be read and written meanwhile.
pub async fn go_on(
    server: &impl ChunkServer,
    keys: &Arc<Keys>,
    manifest: &Manifest,
    to: &Path,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Flushing, FetchError> {
    let target = Target::open(to)?;
    fetch_into(server, keys, manifest, (to, target), progress).await
}

async fn fetch_into(
    server: &impl ChunkServer,
    keys: &Arc<Keys>,
    manifest: &Manifest,
    (to, target): (&Path, Target),
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Flushing, FetchError> {
    let total = manifest.database_len;
    let target = Arc::new(target);
    let _closing = Closing(Arc::clone(&target));
    let mut fetcher = Fetcher {
        server,
        opener: Opener::new(keys, manifest.snapshot, total),
        scratch: Scratch::beside(to, TABLES)?,
    };
    for (id, at) in manifest.lists.iter().zip(0..) {
        want(&fetcher.scratch, ChunkKind::List, *id, at)?;
    }
    fetcher.fetch(ChunkKind::List, None, &mut |_| ()).await?;
    target.reserve(total)?;
    let mut done = 0;
    progress(done, total);
    if target.held_something() {
        done = fetcher.pass_over(keys, &target).await?;
        progress(done, total);
    }
    let mut tell = |bytes| {
        done += bytes;
        progress(done, total);
    };
    let ended = fetcher.fetch(ChunkKind::Data, Some(&target), &mut tell).await;
    if ended.is_err() {
        // What of the file did not reach the disk, the next attempt must not believe: that error comes first.
        let target = Arc::clone(&target);
        blocking(move || target.flushed_beside()).await?;
    }
    ended?;
    Ok(target.flush()?)
}

/// Closes the file however the work on it ends.
struct Closing(Arc<Target>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

const TABLES: &str = "
    -- What is still to be fetched, with all its places among those of its kind.
    CREATE TABLE place (kind INTEGER NOT NULL, id BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (kind, id, at)) WITHOUT ROWID;
    -- Where that lies on the server.
    CREATE TABLE located (pack BLOB NOT NULL, start INTEGER NOT NULL, len INTEGER NOT NULL, id BLOB NOT NULL,
        PRIMARY KEY (pack, start, id)) WITHOUT ROWID;
";

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

/// Fetches chunks and opens them. What it knows about each lies on disk.
struct Fetcher<'a, S> {
    server: &'a S,
    opener: Opener,
    scratch: Scratch,
}

impl<S: ChunkServer> Fetcher<'_, S> {
    /// Wants no more what stands in its place in the file already; how many bytes that are.
    async fn pass_over(&mut self, keys: &Arc<Keys>, target: &Arc<Target>) -> Result<u64, FetchError> {
        let (len, mut passed) = (self.opener.database_len(), 0);
        let count = chunks(len)?;
        for first in (0..count).step_by(LIST_IDS) {
            let (keys, target) = (Arc::clone(keys), Arc::clone(target));
            let some = first..count.min(first.saturating_add(u32::try_from(LIST_IDS).unwrap_or(u32::MAX)));
            let found = blocking(move || {
                let (chunker, mut buffer) = (Chunker::new(&keys), vec![0; CHUNK_LEN]);
                some.map(|at| {
                    let piece = read_data(target.file(), len, at, &mut buffer)?;
                    Ok((at, chunker.id(ChunkKind::Data, piece), piece.len() as u64))
                })
                .collect::<io::Result<Vec<_>>>()
            });
            for (at, id, bytes) in found.await? {
                let right = self.scratch.execute(
                    "DELETE FROM place WHERE kind = ?1 AND id = ?2 AND at = ?3",
                    params![ChunkKind::Data as u8, id.0, at],
                )?;
                passed += bytes * right as u64;
            }
        }
        Ok(passed)
    }

    /// Fetches each distinct chunk of a kind that is wanted once: data to its places in `target`, and of lists what they name is
    /// wanted next. `tell` hears how many bytes were written.
    async fn fetch(
        &mut self,
        kind: ChunkKind,
        target: Option<&Arc<Target>>,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), FetchError> {
        let mut moved = None;
        loop {
            let wanted = self.locate(kind).await?;
            if wanted == 0 {
                return Ok(());
            }
            if let Err(error) = self.fetch_located(kind, target, tell).await {
                // The server may have gathered chunks into another pack since they were located (SPEC 6.6): they are
                // located again as long as that leads on.
                if !error.is_gone() || moved == Some(wanted) {
                    return Err(error);
                }
                moved = Some(wanted);
            }
        }
    }

    async fn fetch_located(
        &mut self,
        kind: ChunkKind,
        target: Option<&Arc<Target>>,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), FetchError> {
        let (server, opener) = (self.server, self.opener.clone());
        let runs = Mutex::new(Runs {
            scratch: &mut self.scratch,
            kind,
            pack: None,
            waiting: VecDeque::new(),
            tell,
        });
        let lock = || runs.lock().unwrap_or_else(PoisonError::into_inner);
        let carry = async || {
            loop {
                let next = lock().next()?;
                let Some(run) = next else {
                    return Ok::<_, FetchError>(());
                };
                let bytes = run.get(server).await?;
                let kept = Kept::to(target);
                let (run, kept) = opener.open(run, bytes, kept).await?;
                lock().done(&run, &kept)?;
            }
        };
        // Three requests at once: one is on its way, one is opened, and one may wait for the disk.
        tokio::try_join!(carry(), carry(), carry()).map(drop)
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
            let mut places = self.server.locate(&ids).await?.into_iter();
            for (id, at) in page {
                let place = self.opener.place((kind, at), places.next().flatten())?;
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
        &mut self,
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
}

/// What is still to be fetched, in the order of packs.
struct Runs<'a> {
    scratch: &'a mut Scratch,
    kind: ChunkKind,
    /// The pack that those are of that wait.
    pack: Option<PackId>,
    waiting: VecDeque<Run>,
    tell: &'a mut (dyn FnMut(u64) + Send),
}

impl Runs<'_> {
    fn next(&mut self) -> Result<Option<Run>, FetchError> {
        while self.waiting.is_empty() {
            let Some(pack) = self.pack_after()? else {
                return Ok(None);
            };
            self.pack = Some(pack);
            self.waiting = Run::all(pack, self.located_in(pack)?);
        }
        Ok(self.waiting.pop_front())
    }

    /// What came of a run is not wanted any more.
    fn done(&mut self, run: &Run, kept: &Kept) -> Result<(), FetchError> {
        for (at, list) in &kept.lists {
            want_listed(self.scratch, *at, list)?;
        }
        for chunk in &run.chunks {
            self.scratch.execute(
                "DELETE FROM place WHERE kind = ?1 AND id = ?2",
                params![self.kind as u8, chunk.id.0],
            )?;
        }
        (self.tell)(kept.written);
        Ok(())
    }

    /// The next of the packs, by name.
    fn pack_after(&self) -> Result<Option<PackId>, FetchError> {
        let mut statement = self
            .scratch
            .statement("SELECT pack FROM located WHERE pack > ?1 ORDER BY pack LIMIT 1")?;
        let after = self.pack.as_ref().map_or(&[][..], |pack| &pack.0);
        let next = statement.query_row(params![after], |row| Ok(PackId(row.get(0)?)));
        Ok(next.optional()?)
    }

    /// What is wanted of a pack.
    fn located_in(&self, pack: PackId) -> Result<Vec<Located>, FetchError> {
        let mut statement = self
            .scratch
            .statement("SELECT start, len, id FROM located WHERE pack = ?1 ORDER BY start")?;
        let mut rows = statement.query(params![pack.0])?;
        let mut located = Vec::new();
        while let Some(row) = rows.next()? {
            let id = ChunkId(row.get(2)?);
            located.push(Located {
                start: row.get(0)?,
                len: row.get(1)?,
                kind: self.kind,
                id,
                places: self.places(id)?,
            });
        }
        Ok(located)
    }

    fn places(&self, id: ChunkId) -> Result<Vec<u32>, FetchError> {
        let mut statement = self
            .scratch
            .statement("SELECT at FROM place WHERE kind = ?1 AND id = ?2 ORDER BY at")?;
        let rows = statement.query_map(params![self.kind as u8, id.0], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
