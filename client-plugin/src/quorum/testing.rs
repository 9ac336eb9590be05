//! Servers in memory that keep to SPEC 4.3 and 7.2, for this module's tests.

use super::{Door, Member};
use crate::{
    remote::{BodyFile, RemoteError},
    restore::BackupServer,
    snapshot::ChunkServer,
};
use backstop_protocol::{
    api::{AccountState, Appended, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    head::Head,
    id::{ChunkId, Network, NodeId, PackId, RecordHash, SnapshotId},
    problem::{Problem, ProblemCode},
    record::{Placement, RecordHeader, may_fork, place, record_hash},
    session::WriterClaim,
};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard};

/// One account at one server.
#[derive(Default)]
pub(super) struct Held {
    /// Whether it answers.
    pub(super) up: bool,
    /// Of how many of the next appends the answer is lost, after which it is down.
    pub(super) dies_after: Option<u32>,
    pub(super) writer: Option<WriterClaim>,
    pub(super) log: Vec<Bytes>,
}

impl Held {
    pub(super) fn head(&self) -> Head {
        self.log.last().map_or(Head::EMPTY, |last| {
            RecordHeader::parse(last).unwrap().head(record_hash(last))
        })
    }

    fn account(&self) -> AccountState {
        AccountState {
            node: NodeId([2; 33]),
            network: Network::Regtest,
            epoch: self.writer.map_or(0, |writer| writer.epoch),
            timeline: self
                .log
                .first()
                .map(|first| RecordHeader::parse(first).unwrap().timeline),
            head: self.head(),
            head_received_at: None,
            writer_since: None,
            writer_seen_at: None,
            first_seq: u64::from(!self.log.is_empty()),
            log_bytes: 0,
            snapshot: None,
            roll_up: false,
            proof: None,
            held_since: None,
            files: None,
            quota: None,
            removal_at: None,
            restored_since: None,
            time: UnixMillis(0),
        }
    }

    fn claim(&mut self, claim: WriterClaim) -> Result<(), RemoteError> {
        let epoch = self.writer.map_or(0, |writer| writer.epoch);
        let refuse = |code| {
            let problem = Problem {
                epoch: Some(epoch),
                ..Problem::new(code, "")
            };
            Err(refused(problem))
        };
        if let Some(writer) = self.writer {
            let same = |one: &WriterClaim| (one.instance, one.run, one.epoch);
            if same(&writer) == same(&claim) {
                return Ok(());
            }
            if writer.instance != claim.instance && !claim.takeover {
                return refuse(ProblemCode::OtherInstance);
            }
        }
        if claim.expected_epoch != epoch {
            return refuse(ProblemCode::EpochMismatch);
        }
        if claim.epoch <= epoch {
            return refuse(ProblemCode::Malformed);
        }
        self.writer = Some(claim);
        Ok(())
    }

    fn append(&mut self, claim: &WriterClaim, sealed: Bytes) -> Result<Appended, RemoteError> {
        if self.writer != Some(*claim) {
            return Err(refused(Problem::new(ProblemCode::Fenced, "")));
        }
        let header = RecordHeader::parse(&sealed).unwrap();
        let hash = record_hash(&sealed);
        let before = self
            .log
            .last()
            .map_or(RecordHash::NONE, |last| RecordHeader::parse(last).unwrap().prev);
        match place(&header, hash, &self.head(), before, claim.epoch) {
            Placement::Next => self.log.push(sealed),
            Placement::Replaces => {
                self.log.pop();
                self.log.push(sealed);
            }
            Placement::Same => {}
            Placement::Refused if self.log.contains(&sealed) => {}
            Placement::Refused
                if may_fork(&header, &self.head(), claim.epoch)
                    && self.log.iter().any(|held| record_hash(held) == header.prev) =>
            {
                self.log.truncate(usize::try_from(header.seq - 1).unwrap());
                self.log.push(sealed);
            }
            Placement::Refused => return Err(refused(Problem::new(ProblemCode::NotNext, ""))),
        }
        Ok(Appended {
            head: self.head(),
            roll_up: false,
            quota: None,
            removal_at: None,
        })
    }
}

fn refused(problem: Problem) -> RemoteError {
    RemoteError::Refused {
        url: "memory:".to_owned(),
        problem: Box::new(problem),
    }
}

fn silence() -> RemoteError {
    RemoteError::Unreachable {
        url: "memory:".to_owned(),
        reason: "it is down".to_owned(),
    }
}

/// A server.
#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<Held>>);

impl Fake {
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    /// What is held, where it answers.
    fn answer(&self) -> Result<MutexGuard<'_, Held>, RemoteError> {
        let held = self.held();
        if held.up { Ok(held) } else { Err(silence()) }
    }
}

impl Door for Fake {
    type Session = FakeSession;

    fn url(&self) -> &'static str {
        "memory:"
    }

    async fn open(&self, claim: Option<WriterClaim>) -> Result<(FakeSession, AccountState), RemoteError> {
        tokio::task::yield_now().await;
        let mut held = self.answer()?;
        if let Some(claim) = claim {
            held.claim(claim)?;
        }
        // As the server keeps it, whatever was expected.
        let claim = claim.and(held.writer);
        let session = FakeSession {
            server: self.clone(),
            claim,
        };
        Ok((session, held.account()))
    }
}

/// A session with it.
pub(super) struct FakeSession {
    server: Fake,
    claim: Option<WriterClaim>,
}

impl Member for FakeSession {
    async fn append(&self, sealed: Bytes) -> Result<Appended, RemoteError> {
        tokio::task::yield_now().await;
        let mut held = self.server.answer()?;
        let appended = held.append(&self.claim.unwrap(), sealed);
        if let Some(left) = &mut held.dies_after {
            if *left == 0 {
                held.up = false;
                held.dies_after = None;
                return Err(silence());
            }
            *left -= 1;
        }
        appended
    }
}

impl ChunkServer for FakeSession {
    async fn locate(&self, _: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        Err(silence())
    }

    async fn put_pack(&self, _: PackId, _: Bytes) -> Result<(), RemoteError> {
        Err(silence())
    }

    async fn get_pack(&self, _: PackId, _: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        Err(silence())
    }

    async fn commit_snapshot(&self, _: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        Err(silence())
    }
}

impl BackupServer for FakeSession {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        tokio::task::yield_now().await;
        Ok(self.server.answer()?.account())
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        tokio::task::yield_now().await;
        let held = self.server.answer()?;
        let from = usize::try_from(from - 1).unwrap();
        // Two in each page.
        let page = held.log.iter().skip(from).take(2);
        Ok(page.map(|sealed| (UnixMillis(0), sealed.clone())).collect())
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        Ok(Vec::new())
    }

    async fn manifest(&self, _: SnapshotId) -> Result<Bytes, RemoteError> {
        Err(silence())
    }
}
