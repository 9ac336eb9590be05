//! Helpers of this module's tests.

use super::ChunkServer;
use crate::{
    remote::{BodyFile, RemoteError},
    restore::BackupServer,
};
use backstop_protocol::{
    api::{self, AccountState, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    hash::sha256,
    head::Head,
    id::{ChunkId, Network, NodeId, PackId, SnapshotId},
    pack::parse_pack,
    problem::{Problem, ProblemCode},
    record::{RecordHeader, record_hash},
    snapshot::SnapshotCommit,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io::Read as _,
    sync::{Mutex, MutexGuard},
};

/// Repeatable randomness (splitmix64).
pub(crate) struct TestRng(u64);

impl TestRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl rand_core::TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for TestRng {}

/// What a fake server holds.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) packs: BTreeMap<PackId, Vec<u8>>,
    pub(crate) places: BTreeMap<ChunkId, ChunkPlace>,
    /// Each commit as it was sent, with the chunks the snapshot then has.
    pub(crate) snapshots: Vec<(SnapshotInfo, SnapshotCommit, BTreeSet<ChunkId>)>,
    pub(crate) log: Vec<(UnixMillis, Bytes)>,
    /// Most bytes of records in one page.
    pub(crate) page: usize,
    /// How many of the next calls get no answer.
    pub(crate) silent: usize,
    /// After an answer, how many of the next calls get none.
    pub(crate) silent_after_each: usize,
    /// How many of the next calls get an answer, before none does any more; `None`: all.
    pub(crate) answers: Option<usize>,
    /// Bytes of packs that were fetched.
    pub(crate) fetched: usize,
    /// Longest answer, in bytes of a pack.
    pub(crate) longest: usize,
    pub(crate) requests: usize,
}

impl Held {
    pub(crate) fn forget_pack(&mut self, pack: PackId) {
        self.packs.remove(&pack);
        self.places.retain(|_, place| place.pack != pack);
    }
}

/// A server in memory that keeps to SPEC 6 and 7 and checks what it is sent.
#[derive(Default)]
pub(crate) struct FakeServer(pub(crate) Mutex<Held>);

impl FakeServer {
    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    /// What is held, for a call that gets an answer.
    fn answer(&self) -> Result<MutexGuard<'_, Held>, RemoteError> {
        let mut held = self.held();
        let is_cut = held.answers == Some(0);
        held.answers = held.answers.map(|answers| answers.saturating_sub(1));
        if held.silent > 0 || is_cut {
            held.silent = held.silent.saturating_sub(1);
            return Err(RemoteError::Unreachable {
                url: "memory:".to_owned(),
                reason: "the line is cut".to_owned(),
            });
        }
        held.silent = held.silent_after_each;
        held.requests += 1;
        Ok(held)
    }
}

pub(crate) fn refused(problem: Problem) -> RemoteError {
    RemoteError::Refused {
        url: "memory:".to_owned(),
        problem: Box::new(problem),
    }
}

impl ChunkServer for FakeServer {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        assert!(ids.len() <= api::LOCATE_MAX);
        assert!(
            ids.is_sorted(),
            "the order of the file is not the server's business"
        );
        let held = self.answer()?;
        Ok(ids.iter().map(|id| held.places.get(id).copied()).collect())
    }

    async fn put_pack(&self, pack: PackId, bytes: Bytes) -> Result<(), RemoteError> {
        assert_eq!(pack.0, sha256(&bytes));
        let mut held = self.answer()?;
        for entry in parse_pack(&bytes).unwrap() {
            let len = u32::try_from(entry.sealed.len()).unwrap();
            held.places.entry(entry.id).or_insert(ChunkPlace {
                pack,
                offset: entry.offset,
                len,
            });
        }
        held.packs.insert(pack, bytes.to_vec());
        Ok(())
    }

    async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        let mut held = self.answer()?;
        let Some(bytes) = held.packs.get(&pack) else {
            return Err(refused(Problem::new(ProblemCode::NotFound, "pack")));
        };
        let (from, len) = range.map_or((0, bytes.len()), |(from, len)| (from as usize, len as usize));
        let bytes = Bytes::copy_from_slice(&bytes[from..from + len]);
        held.longest = held.longest.max(bytes.len());
        held.fetched += bytes.len();
        Ok(bytes)
    }

    async fn commit_snapshot(&self, commit: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        let mut bytes = Vec::new();
        commit.open().unwrap().read_to_end(&mut bytes).unwrap();
        let (header, commit) = SnapshotCommit::parse(&bytes).unwrap();
        let mut held = self.answer()?;
        let mut chunks = match commit.parent {
            None => BTreeSet::new(),
            Some(parent) => held
                .snapshots
                .iter()
                .find(|(info, ..)| info.snapshot == parent)
                .unwrap()
                .2
                .clone(),
        };
        for id in &commit.removed {
            assert!(chunks.remove(id), "removes what the parent does not have");
        }
        for id in &commit.added {
            assert!(chunks.insert(*id), "adds what the parent has");
        }
        let missing = chunks.iter().filter(|id| !held.places.contains_key(id)).copied();
        let missing: Vec<_> = missing.take(api::MISSING_MAX).collect();
        if !missing.is_empty() {
            return Err(refused(Problem {
                missing,
                ..Problem::new(ProblemCode::ChunksMissing, "")
            }));
        }
        let info = SnapshotInfo {
            snapshot: header.snapshot,
            base_seq: header.base_seq,
            base_hash: header.base_hash,
            committed_at: UnixMillis(1),
            bytes: chunks.iter().map(|id| u64::from(held.places[id].len)).sum(),
        };
        held.snapshots.push((info, commit, chunks));
        Ok(info)
    }
}

impl BackupServer for FakeServer {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        let held = self.answer()?;
        let last = held
            .log
            .last()
            .map(|(at, sealed)| (*at, RecordHeader::parse(sealed).unwrap(), record_hash(sealed)));
        let first = held
            .log
            .first()
            .map(|(_, sealed)| RecordHeader::parse(sealed).unwrap());
        Ok(AccountState {
            node: NodeId([2; 33]),
            network: Network::Regtest,
            epoch: 9,
            timeline: last.map(|(_, header, _)| header.timeline),
            head: last.map_or(Head::EMPTY, |(_, header, hash)| header.head(hash)),
            head_received_at: last.map(|(at, ..)| at),
            writer_since: None,
            writer_seen_at: None,
            first_seq: first.map_or(0, |header| header.seq),
            log_bytes: 0,
            snapshot: held.snapshots.last().map(|(info, ..)| *info),
            roll_up: false,
            proof: None,
            held_since: None,
            files: None,
            quota: None,
            removal_at: None,
            restored_since: None,
            time: UnixMillis(0),
        })
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        let held = self.answer()?;
        let mut len = 0;
        let from = held
            .log
            .iter()
            .skip_while(|(_, sealed)| RecordHeader::parse(sealed).unwrap().seq < from);
        Ok(from
            .take_while(|(_, sealed)| {
                let before = len;
                len += sealed.len();
                before == 0 || len <= held.page
            })
            .cloned()
            .collect())
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        Ok(self
            .answer()?
            .snapshots
            .iter()
            .rev()
            .map(|(info, ..)| *info)
            .collect())
    }

    async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        let held = self.answer()?;
        let found = held.snapshots.iter().find(|(info, ..)| info.snapshot == snapshot);
        found
            .map(|(_, commit, _)| Bytes::from(commit.manifest.clone()))
            .ok_or_else(|| refused(Problem::new(ProblemCode::NotFound, "manifest")))
    }
}
