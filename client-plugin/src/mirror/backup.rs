//! A mirror as the server that a restore asks: it has the same answers, and every one of them is checked alike (I9).

use super::{Mirror, MirrorError};
use crate::{
    remote::{BodyFile, RemoteError},
    restore::BackupServer,
    snapshot::ChunkServer,
};
use backstop_protocol::{
    api::{AccountState, RECORD_PAGE, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    id::{ChunkId, PackId, SnapshotId},
};
use bytes::Bytes;

impl Mirror {
    /// The account as the mirror holds it.
    pub fn account_state(&self) -> Result<AccountState, MirrorError> {
        let state = self.state()?;
        Ok(AccountState {
            node: self.config.node,
            network: self.config.network,
            epoch: state.head.epoch,
            timeline: state.timeline,
            head: state.head,
            head_received_at: state.head_received_at,
            writer_since: None,
            writer_seen_at: None,
            first_seq: state.first_seq,
            log_bytes: 0,
            snapshot: None,
            roll_up: false,
            proof: None,
            held_since: None,
            files: None,
            quota: None,
            removal_at: None,
            restored_since: None,
            time: state.heard_at.unwrap_or_default(),
        })
    }

    /// The newest sealed files beside the database.
    pub fn sealed_files(&self) -> Result<Option<Vec<u8>>, MirrorError> {
        Ok(self.index().files()?.map(|(_, sealed)| sealed))
    }

    /// The mirror's own trouble, where a server's is expected.
    fn away(&self) -> impl Fn(MirrorError) -> RemoteError + use<'_> {
        |error| RemoteError::Unreachable {
            url: self.dir.display().to_string(),
            reason: error.to_string(),
        }
    }

    fn takes_nothing(&self) -> RemoteError {
        RemoteError::Protocol {
            url: self.dir.display().to_string(),
            reason: "a mirror takes nothing from a node".to_owned(),
        }
    }
}

impl ChunkServer for Mirror {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        let index = self.index();
        ids.iter()
            .map(|id| index.place(*id).map_err(self.away()))
            .collect()
    }

    async fn put_pack(&self, _: PackId, _: Bytes) -> Result<(), RemoteError> {
        Err(self.takes_nothing())
    }

    async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        self.packs.get(pack, range).map_err(self.away())
    }

    async fn commit_snapshot(&self, _: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        Err(self.takes_nothing())
    }
}

impl BackupServer for Mirror {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        self.account_state().map_err(self.away())
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        self.index().records(from, RECORD_PAGE).map_err(self.away())
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        let read = || {
            let index = self.index();
            let state = index.state()?;
            let mut known = match state.timeline {
                Some(timeline) => index.snapshots(timeline)?,
                None => Vec::new(),
            };
            // Below the log its place in the chain cannot be proved, and nothing leads on from it.
            known.retain(|info| info.base_seq.saturating_add(1) >= state.first_seq);
            Ok(known)
        };
        read().map_err(self.away())
    }

    async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        let found = self.index().manifest(snapshot).map_err(self.away())?;
        found.map(Bytes::from).ok_or_else(|| RemoteError::Protocol {
            url: self.dir.display().to_string(),
            reason: format!("it does not hold snapshot {snapshot}"),
        })
    }
}
