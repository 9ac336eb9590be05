//! From a database file to a complete snapshot on a server (SPEC 6.4, I8).
//!
//! The file is read twice: first for the ids of all chunks, then for those alone that the server does not have. So what
//! was sent before a cut is not sent again, and memory holds few packs: ids lie on disk ([`super::scratch`]). Packs are filled in the
//! order of ids, keyed hashes, and everything else is sorted by them too: the server does not learn where in the file a chunk lies.
//! While one pack is filled, others are on their way there, and back to be proved.

use super::{
    chunk::Chunker,
    commit,
    fetch::FetchError,
    index::{Index, Piece},
    known::KnownChunks,
    located::Opener,
    manifest::{Base, Manifest},
    prove::prove,
    scratch::ScratchError,
    sealing::{Filling, Pace, Sealing},
    server::ChunkServer,
};
use crate::{
    blocking::blocking,
    keys::Keys,
    random::SharedRng,
    remote::{BodyFile, RemoteError},
    replay::SqliteError,
};
use backstop_protocol::{
    api::{LOCATE_MAX, SnapshotInfo},
    bytes::Malformed,
    id::{ChunkId, SnapshotId},
    problem::ProblemCode,
};
use rand_core::CryptoRng;
use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// How many chunks are fetched again that the server had before.
const SAMPLE: usize = 64;

/// What is to become a snapshot.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// A database file that nobody writes to.
    pub database: &'a Path,
    /// What is noted about its chunks meanwhile lies in files whose names begin so; two uploads at once must differ in it.
    pub notes: &'a Path,
    /// The record after which the database stood so.
    pub base: Base,
    /// The snapshot's name: random, or the one that a gap record announced.
    pub snapshot: SnapshotId,
    /// CLN's counter in the database.
    pub data_version: u64,
    /// The content of the last policy record up to the base.
    pub policy: Option<Vec<u8>>,
    /// The complete snapshot of the same account whose list of chunks this one's is sent as a difference to.
    pub parent: Option<&'a KnownChunks>,
    /// How much of the machine it may take.
    pub pace: Pace,
}

/// A complete snapshot, and what it took.
#[derive(Debug)]
pub struct Uploaded {
    /// As the server has it.
    pub info: SnapshotInfo,
    /// Its chunks, by name.
    pub index: Index,
    /// How many they are.
    pub chunks: u64,
    /// How many of them were sent: the server did not have them.
    pub sent: u64,
    /// Bytes of packs sent.
    pub sent_bytes: u64,
}

/// Why there is no snapshot. What was sent stays and is not sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The file could not be read.
    #[error("the database file could not be read: {0}")]
    Io(#[from] io::Error),
    /// The file was written to between the two readings.
    #[error("the database file changed while it was uploaded")]
    Changed,
    /// The database cannot be described by a manifest.
    #[error("the database makes no snapshot: {0}")]
    Manifest(#[from] Malformed),
    /// What was sent did not come back as it was. The snapshot before is still the newest.
    #[error("what the server was sent does not come back as it was: {0}")]
    Unproved(#[source] FetchError),
    /// The list of chunks beside the file could not be kept.
    #[error("the list of what is to be sent could not be kept: {0}")]
    Scratch(#[from] ScratchError),
    /// The server did not take it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl From<SqliteError> for UploadError {
    fn from(error: SqliteError) -> Self {
        Self::Scratch(error.into())
    }
}

impl From<FetchError> for UploadError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Remote(error) => Self::Remote(error),
            FetchError::Scratch(error) => Self::Scratch(error),
            error => Self::Unproved(error),
        }
    }
}

/// Sends the chunks of a database that somebody may be writing to, and commits nothing: whatever of them is still right
/// when the snapshot is taken need not be sent then, while lightningd waits. A piece that changes under the reading is left
/// out. `notes` is as in [`Plan`]. Returns how many bytes were sent.
pub async fn read_ahead(
    server: &impl ChunkServer,
    keys: &Arc<Keys>,
    database: &Path,
    notes: &Path,
    rng: &SharedRng,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<u64, UploadError> {
    let Named { file, index } = Named::of(database, notes, keys).await?;
    let sealing = Sealing {
        file,
        keys: Arc::clone(keys),
        rng: rng.clone(),
        moving: true,
        pace: Pace::Background,
    };
    // It names no snapshot: only what is wrong with a chunk is told by it.
    let mut sender = Sender::new(server, sealing, SnapshotId([0; 16]), index);
    sender.look().await?;
    sender.send(progress).await?;
    Ok(sender.sent_bytes)
}

/// Uploads a snapshot, fetches again what was sent and a sample of the rest, and commits it. `progress` hears how many
/// chunks were sent, of how many that have to be.
pub async fn upload(
    server: &impl ChunkServer,
    keys: &Arc<Keys>,
    plan: &Plan<'_>,
    rng: &SharedRng,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Uploaded, UploadError> {
    let named = Named::of(plan.database, plan.notes, keys).await?;
    upload_named(server, keys, plan, named, rng, progress).await
}

/// The same, of a file that was read before.
pub async fn upload_named(
    server: &impl ChunkServer,
    keys: &Arc<Keys>,
    plan: &Plan<'_>,
    Named { file, index }: Named,
    rng: &SharedRng,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Uploaded, UploadError> {
    let commit = sealed_commit(plan, &index, keys, &mut rng.clone())?;
    let sealing = Sealing {
        file,
        keys: Arc::clone(keys),
        rng: rng.clone(),
        moving: false,
        pace: plan.pace,
    };
    let mut sender = Sender::new(server, sealing, plan.snapshot, index);
    let info = match sender.round(&[], &commit, progress).await {
        // Something went between a question and the commit: once more, then it is an error.
        Err(UploadError::Unproved(FetchError::Missing(_))) => sender.round(&[], &commit, progress).await?,
        Err(UploadError::Remote(RemoteError::Refused { problem, .. }))
            if matches!(problem.code, ProblemCode::ChunksMissing | ProblemCode::NotFound) =>
        {
            sender.round(&problem.missing, &commit, progress).await?
        }
        done => done?,
    };
    let Sender {
        index,
        sent,
        sent_bytes,
        ..
    } = sender;
    Ok(Uploaded {
        info,
        chunks: index.count()?,
        index,
        sent,
        sent_bytes,
    })
}

/// A file, and the names of its chunks.
#[derive(Debug)]
pub struct Named {
    file: Arc<File>,
    index: Index,
}

impl Named {
    /// Reads the file once. `notes` is as in [`Plan`].
    pub async fn of(database: &Path, notes: &Path, keys: &Arc<Keys>) -> Result<Self, UploadError> {
        let (file, notes, keys) = (
            Arc::new(File::open(database)?),
            notes.to_owned(),
            Arc::clone(keys),
        );
        Ok(blocking(move || {
            let index = Index::of(&file, &notes, &Chunker::new(&keys))?;
            Ok::<_, ScratchError>(Self { file, index })
        })
        .await?)
    }
}

fn sealed_commit(
    plan: &Plan<'_>,
    index: &Index,
    keys: &Keys,
    rng: &mut dyn CryptoRng,
) -> Result<BodyFile, UploadError> {
    let manifest = Manifest {
        snapshot: plan.snapshot,
        base: plan.base,
        data_version: plan.data_version,
        database_len: index.database_len,
        policy: plan.policy.clone(),
        lists: index.lists.clone(),
    };
    if let Some(parent) = plan.parent {
        index.compare_with(parent)?;
    }
    let sealed = manifest.seal(&keys.manifest, rng)?;
    let parent = plan.parent.map(|parent| parent.snapshot);
    Ok(commit::write(plan.notes, &sealed, parent, index)?)
}

struct Sender<'a, S> {
    server: &'a S,
    sealing: Sealing,
    opener: Opener,
    index: Index,
    sent: u64,
    sent_bytes: u64,
}

impl<'a, S: ChunkServer> Sender<'a, S> {
    fn new(server: &'a S, sealing: Sealing, snapshot: SnapshotId, index: Index) -> Self {
        Self {
            server,
            opener: Opener::new(&sealing.keys, snapshot, index.database_len),
            sealing,
            index,
            sent: 0,
            sent_bytes: 0,
        }
    }

    /// Sends what is missing, and `named` in any case, proves it and a sample of the rest, and commits.
    async fn round(
        &mut self,
        named: &[ChunkId],
        commit: &BodyFile,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<SnapshotInfo, UploadError> {
        self.index.none_missing()?;
        for id in named {
            if self.index.piece(*id)?.is_some() {
                self.index.note_missing(*id)?;
            }
        }
        let held = self.look().await?;
        self.send(progress).await?;
        prove(self.server, &self.opener, &held).await?;
        Ok(self.server.commit_snapshot(commit).await?)
    }

    /// Notes what the server lacks. Returns some of what it has held for a while.
    async fn look(&mut self) -> Result<Vec<Piece>, UploadError> {
        let mut sample = Sample::default();
        let mut page = self.index.pieces(None, LOCATE_MAX)?;
        while let Some(last) = page.last().map(|piece| piece.id) {
            let ids: Vec<_> = page.iter().map(|piece| piece.id).collect();
            let places = self.server.locate(&ids).await?;
            for (piece, place) in page.iter().zip(places) {
                match place {
                    None => self.index.note_missing(piece.id)?,
                    Some(_) => sample.take(*piece, &mut self.sealing.rng),
                }
            }
            page = self.index.pieces(Some(last), LOCATE_MAX)?;
        }
        Ok(sample.pieces)
    }

    /// Sends what is missing, and fetches each pack again.
    async fn send(&mut self, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<(), UploadError> {
        let total = self.index.missing_count()?;
        progress(0, total);
        let carrier = Carrier {
            server: self.server,
            opener: &self.opener,
            filling: Filling::new(&self.sealing, &mut self.index).into(),
            told: Told {
                sent: &mut self.sent,
                sent_bytes: &mut self.sent_bytes,
                done: 0,
                total,
                progress,
            }
            .into(),
        };
        let third = async {
            if self.sealing.pace.packs() > 2 {
                carrier.carry().await?;
            }
            Ok::<_, UploadError>(())
        };
        tokio::try_join!(carrier.carry(), carrier.carry(), third)?;
        drop(carrier);
        progress(total, total);
        Ok(())
    }
}

/// Fills packs, takes them to the server, and fetches each again.
struct Carrier<'a, S> {
    server: &'a S,
    opener: &'a Opener,
    filling: tokio::sync::Mutex<Filling<'a>>,
    told: Mutex<Told<'a>>,
}

/// What was sent so far, and who hears of it.
struct Told<'a> {
    sent: &'a mut u64,
    sent_bytes: &'a mut u64,
    done: u64,
    total: u64,
    progress: &'a mut (dyn FnMut(u64, u64) + Send),
}

impl<S: ChunkServer> Carrier<'_, S> {
    /// One pack after another, until nothing is left. Several at once: while one pack is filled, another is on its way.
    async fn carry(&self) -> Result<(), UploadError> {
        loop {
            let filled = self.filling.lock().await.next().await?;
            let Some(filled) = filled else { return Ok(()) };
            let (id, bytes, pieces) = filled.finish().await;
            let (count, len) = (pieces.len() as u64, bytes.len() as u64);
            self.server.put_pack(id, bytes).await?;
            prove(self.server, self.opener, &pieces).await?;
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            *told.sent += count;
            *told.sent_bytes += len;
            told.done += count;
            let (done, total) = (told.done, told.total);
            (told.progress)(done, total);
        }
    }
}

/// Some of many pieces, each as likely as any other.
#[derive(Default)]
struct Sample {
    pieces: Vec<Piece>,
    seen: u64,
}

impl Sample {
    fn take(&mut self, piece: Piece, rng: &mut dyn CryptoRng) {
        self.seen += 1;
        if self.pieces.len() < SAMPLE {
            self.pieces.push(piece);
            return;
        }
        // The modulo favours low places by less than one in 2^32.
        let place = usize::try_from(rng.next_u64() % self.seen).unwrap_or(usize::MAX);
        if let Some(other) = self.pieces.get_mut(place) {
            *other = piece;
        }
    }
}
