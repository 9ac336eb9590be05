//! From a database file to a complete snapshot on a server (SPEC 6.4, I8).
//!
//! The file is read twice: first for the ids of all chunks, then for those alone that the server does not have. So what
//! was sent before a cut is not sent again, and memory holds ids and one pack, never the database. Packs are filled in
//! random order and everything else is sorted: the server does not learn where in the file a chunk lies.

use super::{
    chunk::Chunker,
    fetch::FetchError,
    index::{Index, Piece},
    manifest::{Base, Manifest},
    prove::prove,
    server::ChunkServer,
};
use crate::{keys::Keys, remote::RemoteError};
use backstop_protocol::{
    api::{LOCATE_MAX, PACK_TARGET, SnapshotInfo},
    bytes::Malformed,
    id::{ChunkId, SnapshotId},
    pack::PackBuilder,
    problem::ProblemCode,
    snapshot::SnapshotCommit,
};
use bytes::Bytes;
use rand_core::CryptoRng;
use std::{collections::BTreeSet, fs::File, io, path::Path};

/// How many chunks are fetched again that the server had before.
const SAMPLE: usize = 64;

/// What is to become a snapshot.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// A database file that nobody writes to.
    pub database: &'a Path,
    /// The record after which the database stood so.
    pub base: Base,
    /// The snapshot's name: random, or the one that a gap record announced.
    pub snapshot: SnapshotId,
    /// CLN's counter in the database.
    pub data_version: u64,
    /// The content of the last policy record up to the base.
    pub policy: Option<Vec<u8>>,
    /// The snapshot whose list of chunks this one's is sent as a difference to.
    pub parent: Option<Parent<'a>>,
}

/// A complete snapshot of the same account.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// Its name.
    pub snapshot: SnapshotId,
    /// Its chunks, sorted, each once: [`Uploaded::chunks`] of then.
    pub chunks: &'a [ChunkId],
}

/// A complete snapshot, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// As the server has it.
    pub info: SnapshotInfo,
    /// All its chunks, sorted, each once.
    pub chunks: Vec<ChunkId>,
    /// Those that were sent: the server did not have them.
    pub sent: Vec<ChunkId>,
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
    /// The server did not take it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl From<FetchError> for UploadError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Remote(error) => Self::Remote(error),
            error => Self::Unproved(error),
        }
    }
}

/// Uploads a snapshot, fetches again what was sent and a sample of the rest, and commits it. `progress` hears how many chunks were sent, of how many that have to be.
pub async fn upload(
    server: &impl ChunkServer,
    keys: &Keys,
    plan: &Plan<'_>,
    rng: &mut (dyn CryptoRng + Send),
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Uploaded, UploadError> {
    let file = File::open(plan.database)?;
    let mut chunker = Chunker::new(keys);
    let index = Index::of(&file, &chunker).await?;
    let pieces = index.pieces();
    let commit = commit(plan, &index, &pieces, keys, rng)?;

    let mut sender = Sender {
        server,
        keys,
        snapshot: plan.snapshot,
        file,
        index,
        chunker: &mut chunker,
        sent: Vec::new(),
        sent_bytes: 0,
    };
    let info = match sender.round(&pieces, &[], &commit, rng, progress).await {
        // Something went between a question and the commit: once more, then it is an error.
        Err(UploadError::Unproved(FetchError::Missing(_))) => {
            sender.round(&pieces, &[], &commit, rng, progress).await?
        }
        Err(UploadError::Remote(RemoteError::Refused { problem, .. }))
            if matches!(problem.code, ProblemCode::ChunksMissing | ProblemCode::NotFound) =>
        {
            sender
                .round(&pieces, &problem.missing, &commit, rng, progress)
                .await?
        }
        done => done?,
    };
    let Sender {
        mut sent, sent_bytes, ..
    } = sender;
    sent.sort_unstable();
    sent.dedup();
    Ok(Uploaded {
        info,
        chunks: pieces.iter().map(|piece| piece.id).collect(),
        sent,
        sent_bytes,
    })
}

fn commit(
    plan: &Plan<'_>,
    index: &Index,
    pieces: &[Piece],
    keys: &Keys,
    rng: &mut dyn CryptoRng,
) -> Result<SnapshotCommit, Malformed> {
    let manifest = Manifest {
        snapshot: plan.snapshot,
        base: plan.base,
        data_version: plan.data_version,
        database_len: index.database_len,
        policy: plan.policy.clone(),
        lists: index.lists.clone(),
    };
    let before = plan.parent.map_or(&[][..], |parent| parent.chunks);
    let is_new = |id: &ChunkId| before.binary_search(id).is_err();
    let is_gone = |id: &ChunkId| pieces.binary_search_by_key(id, |piece| piece.id).is_err();
    Ok(SnapshotCommit {
        manifest: manifest.seal(&keys.manifest, rng)?,
        parent: plan.parent.map(|parent| parent.snapshot),
        added: pieces.iter().map(|piece| piece.id).filter(is_new).collect(),
        removed: before.iter().copied().filter(is_gone).collect(),
    })
}

struct Sender<'a, 'k, S> {
    server: &'a S,
    keys: &'k Keys,
    snapshot: SnapshotId,
    file: File,
    index: Index,
    chunker: &'a mut Chunker<'k>,
    sent: Vec<ChunkId>,
    sent_bytes: u64,
}

impl<S: ChunkServer> Sender<'_, '_, S> {
    /// Sends what is missing, and `named` in any case, proves it and a sample of the rest, and commits.
    async fn round(
        &mut self,
        pieces: &[Piece],
        named: &[ChunkId],
        commit: &SnapshotCommit,
        rng: &mut (dyn CryptoRng + Send),
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<SnapshotInfo, UploadError> {
        let named: BTreeSet<_> = named.iter().collect();
        let mut missing = self.missing(pieces).await?;
        missing.extend(pieces.iter().filter(|piece| named.contains(&piece.id)));
        missing.sort_unstable();
        missing.dedup();
        self.send(&missing, rng, progress).await?;
        let sample = sample(pieces, &missing, rng);
        for proved in [&sample, &missing] {
            prove(self.server, self.keys, self.snapshot, &self.index, proved).await?;
        }
        Ok(self.server.commit_snapshot(commit).await?)
    }

    /// Those of the sorted `pieces` that the server does not have.
    async fn missing(&self, pieces: &[Piece]) -> Result<Vec<Piece>, RemoteError> {
        let mut missing = Vec::new();
        for page in pieces.chunks(LOCATE_MAX) {
            let ids: Vec<_> = page.iter().map(|piece| piece.id).collect();
            let places = self.server.locate(&ids).await?;
            missing.extend(
                page.iter()
                    .zip(places)
                    .filter(|(_, place)| place.is_none())
                    .map(|(piece, _)| *piece),
            );
        }
        Ok(missing)
    }

    async fn send(
        &mut self,
        missing: &[Piece],
        rng: &mut (dyn CryptoRng + Send),
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), UploadError> {
        let mut missing = missing.to_vec();
        shuffle(&mut missing, rng);
        let total = missing.len() as u64;
        let mut pack = PackBuilder::default();
        let mut buffer = Vec::new();
        progress(0, total);
        for (piece, done) in missing.iter().zip(1..) {
            let plaintext = self.index.read(&self.file, piece, &mut buffer)?;
            // Committed under the first reading's id, other content would be a snapshot that cannot be opened.
            if self.chunker.id(piece.kind(), plaintext) != piece.id {
                return Err(UploadError::Changed);
            }
            let sealed = self.chunker.seal(piece.kind(), piece.id, plaintext, rng);
            pack.push(piece.id, &sealed);
            self.sent.push(piece.id);
            if pack.len() >= PACK_TARGET {
                self.put(std::mem::take(&mut pack)).await?;
                progress(done, total);
            }
            // The thread may be shared with the one thing that must not wait: an append.
            tokio::task::yield_now().await;
        }
        if !pack.is_empty() {
            self.put(pack).await?;
        }
        progress(total, total);
        Ok(())
    }

    async fn put(&mut self, pack: PackBuilder) -> Result<(), RemoteError> {
        let (id, bytes) = pack.finish();
        self.sent_bytes += bytes.len() as u64;
        self.server.put_pack(id, Bytes::from(bytes)).await
    }
}

/// Some of the sorted `pieces` that are none of the sorted `sent`: the server has held them for a while.
fn sample(pieces: &[Piece], sent: &[Piece], rng: &mut dyn CryptoRng) -> Vec<Piece> {
    let mut held: Vec<Piece> = pieces
        .iter()
        .filter(|piece| sent.binary_search(piece).is_err())
        .copied()
        .collect();
    shuffle(&mut held, rng);
    held.truncate(SAMPLE);
    held.sort_unstable();
    held
}

/// Fisher and Yates. The modulo favours low places by less than one in 2^32: nobody learns a place from that.
fn shuffle(pieces: &mut [Piece], rng: &mut dyn CryptoRng) {
    for last in (1..pieces.len()).rev() {
        let pick = rng.next_u64() % (last as u64 + 1);
        pieces.swap(last, usize::try_from(pick).unwrap_or(last));
    }
}
