//! From a database file to a complete snapshot on a server (SPEC 6.4, I8).
//!
//! The file is read twice: first for the ids of all chunks, then for those alone that the server does not have. So what
//! was sent before a cut is not sent again, and memory holds one pack: ids lie on disk ([`super::scratch`]). Packs are filled
//! in random order and everything else is sorted: the server does not learn where in the file a chunk lies.

use super::{
    chunk::Chunker,
    commit,
    fetch::FetchError,
    index::{Index, Piece},
    known::KnownChunks,
    manifest::{Base, Manifest},
    prove::prove,
    scratch::ScratchError,
    server::ChunkServer,
};
use crate::{
    keys::Keys,
    remote::{BodyFile, RemoteError},
    replay::SqliteError,
};
use backstop_protocol::{
    api::{LOCATE_MAX, PACK_TARGET, SnapshotInfo},
    bytes::Malformed,
    id::{ChunkId, SnapshotId},
    pack::PackBuilder,
    problem::ProblemCode,
};
use bytes::Bytes;
use rand_core::CryptoRng;
use std::{fs::File, io, path::Path};

/// How many chunks are fetched again that the server had before.
const SAMPLE: usize = 64;
/// How many chunks that are to be sent are looked up at once.
const PAGE: usize = 1_024;

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
    keys: &Keys,
    database: &Path,
    notes: &Path,
    rng: &mut (dyn CryptoRng + Send),
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<u64, UploadError> {
    let file = File::open(database)?;
    let mut chunker = Chunker::new(keys);
    let index = Index::of(&file, notes, &chunker).await?;
    let mut sender = Sender {
        server,
        keys,
        // It names no snapshot: only what is wrong with a chunk is told by it.
        snapshot: SnapshotId([0; 16]),
        file,
        index,
        chunker: &mut chunker,
        moving: true,
        sent: 0,
        sent_bytes: 0,
    };
    sender.look(rng).await?;
    sender.send(rng, progress).await?;
    Ok(sender.sent_bytes)
}

/// Uploads a snapshot, fetches again what was sent and a sample of the rest, and commits it. `progress` hears how many
/// chunks were sent, of how many that have to be.
pub async fn upload(
    server: &impl ChunkServer,
    keys: &Keys,
    plan: &Plan<'_>,
    rng: &mut (dyn CryptoRng + Send),
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Uploaded, UploadError> {
    let file = File::open(plan.database)?;
    let mut chunker = Chunker::new(keys);
    let index = Index::of(&file, plan.notes, &chunker).await?;
    let commit = sealed_commit(plan, &index, keys, rng)?;

    let mut sender = Sender {
        server,
        keys,
        snapshot: plan.snapshot,
        file,
        index,
        chunker: &mut chunker,
        moving: false,
        sent: 0,
        sent_bytes: 0,
    };
    let info = match sender.round(&[], &commit, rng, progress).await {
        // Something went between a question and the commit: once more, then it is an error.
        Err(UploadError::Unproved(FetchError::Missing(_))) => {
            sender.round(&[], &commit, rng, progress).await?
        }
        Err(UploadError::Remote(RemoteError::Refused { problem, .. }))
            if matches!(problem.code, ProblemCode::ChunksMissing | ProblemCode::NotFound) =>
        {
            sender.round(&problem.missing, &commit, rng, progress).await?
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

struct Sender<'a, 'k, S> {
    server: &'a S,
    keys: &'k Keys,
    snapshot: SnapshotId,
    file: File,
    index: Index,
    chunker: &'a mut Chunker<'k>,
    /// Somebody may be writing to the file.
    moving: bool,
    sent: u64,
    sent_bytes: u64,
}

impl<S: ChunkServer> Sender<'_, '_, S> {
    /// Sends what is missing, and `named` in any case, proves it and a sample of the rest, and commits.
    async fn round(
        &mut self,
        named: &[ChunkId],
        commit: &BodyFile,
        rng: &mut (dyn CryptoRng + Send),
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<SnapshotInfo, UploadError> {
        self.index.none_missing()?;
        for id in named {
            if self.index.piece(*id)?.is_some() {
                self.index.note_missing(*id, rng)?;
            }
        }
        let held = self.look(rng).await?;
        self.send(rng, progress).await?;
        self.prove(&held).await?;
        Ok(self.server.commit_snapshot(commit).await?)
    }

    /// Notes what the server lacks. Returns some of what it has held for a while.
    async fn look(&mut self, rng: &mut (dyn CryptoRng + Send)) -> Result<Vec<Piece>, UploadError> {
        let mut sample = Sample::default();
        let mut page = self.index.pieces(None, LOCATE_MAX)?;
        while let Some(last) = page.last().map(|piece| piece.id) {
            let ids: Vec<_> = page.iter().map(|piece| piece.id).collect();
            let places = self.server.locate(&ids).await?;
            for (piece, place) in page.iter().zip(places) {
                match place {
                    None => self.index.note_missing(piece.id, rng)?,
                    Some(_) => sample.take(*piece, rng),
                }
            }
            page = self.index.pieces(Some(last), LOCATE_MAX)?;
        }
        Ok(sample.pieces)
    }

    /// Sends what is missing, in random order, and fetches each pack again.
    async fn send(
        &mut self,
        rng: &mut (dyn CryptoRng + Send),
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), UploadError> {
        let total = self.index.missing_count()?;
        let mut done = 0;
        let mut pack = Vec::new();
        let mut builder = PackBuilder::default();
        let mut buffer = Vec::new();
        let mut page = self.index.missing(0, PAGE)?;
        progress(0, total);
        while let Some(last) = page.last().map(|(place, _)| *place) {
            for (_, piece) in page {
                let plaintext = self.index.read(&self.file, &piece, &mut buffer)?;
                // Committed under the first reading's id, other content would be a snapshot that cannot be opened.
                if self.chunker.id(piece.kind(), plaintext) != piece.id {
                    if self.moving {
                        continue;
                    }
                    return Err(UploadError::Changed);
                }
                let sealed = self.chunker.seal(piece.kind(), piece.id, plaintext, rng);
                builder.push(piece.id, &sealed);
                pack.push(piece);
                done += 1;
                if builder.len() >= PACK_TARGET {
                    self.put(std::mem::take(&mut builder), &pack).await?;
                    pack.clear();
                    progress(done, total);
                }
                // The thread may be shared with the one thing that must not wait: an append.
                tokio::task::yield_now().await;
            }
            page = self.index.missing(last.saturating_add(1), PAGE)?;
        }
        if !pack.is_empty() {
            self.put(builder, &pack).await?;
        }
        progress(total, total);
        Ok(())
    }

    async fn put(&mut self, builder: PackBuilder, pieces: &[Piece]) -> Result<(), UploadError> {
        let (id, bytes) = builder.finish();
        self.sent += pieces.len() as u64;
        self.sent_bytes += bytes.len() as u64;
        self.server.put_pack(id, Bytes::from(bytes)).await?;
        self.prove(pieces).await
    }

    async fn prove(&mut self, pieces: &[Piece]) -> Result<(), UploadError> {
        Ok(prove(
            self.server,
            self.keys,
            self.snapshot,
            self.index.database_len,
            pieces,
        )
        .await?)
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
