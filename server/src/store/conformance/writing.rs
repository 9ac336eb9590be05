//! What the rules are tried with: grants, claims, a session and the chain it writes.

use super::*;

pub(super) const NOW: UnixMillis = UnixMillis(1_000_000);

pub(super) fn later(millis: u64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

pub(super) fn granted(node: u8, key: u8, scope: Scope, serial: u64) -> ShownGrant {
    let grant = Grant {
        access_key: AccessKey([key; 32]),
        scope,
        node: NodeId([node; 33]),
        network: Network::Regtest,
        serial,
        expires_at: None,
    };
    shown(grant)
}

pub(super) fn shown(grant: Grant) -> ShownGrant {
    let signed = SignedGrant {
        text: grant.to_string(),
        signature: "y".repeat(104),
    };
    ShownGrant { grant, signed }
}

pub(crate) fn claim(instance: u8, run: u8, expected_epoch: u64, epoch: u64) -> WriterClaim {
    WriterClaim {
        instance: InstanceId([instance; 16]),
        run: RunId([run; 16]),
        expected_epoch,
        epoch,
        takeover: false,
    }
}

pub(super) fn takeover(claim: WriterClaim) -> WriterClaim {
    WriterClaim {
        takeover: true,
        ..claim
    }
}

pub(super) fn append_request(node: u8, grant: Option<ShownGrant>, claim: WriterClaim) -> SessionRequest {
    SessionRequest {
        node: NodeId([node; 33]),
        network: Network::Regtest,
        access_key: AccessKey([node; 32]),
        scope: Scope::Append,
        grant,
        claim: Some(claim),
        invite: None,
        now: NOW,
    }
}

pub(super) fn read_request(node: u8, grant: Option<ShownGrant>) -> SessionRequest {
    SessionRequest {
        scope: Scope::Read,
        claim: None,
        ..append_request(node, grant, claim(0, 0, 0, 0))
    }
}

pub(super) fn refusal<T: fmt::Debug>(outcome: Result<T, StoreError>) -> Refusal {
    match outcome {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// An open append session and the chain it writes.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) account: AccountId,
    pub(crate) writer: Writer,
    pub(crate) timeline: TimelineId,
    pub(crate) head: Head,
}

impl Session {
    /// Opens an account's first session, at epoch 1. Node, key, instance and run are named alike.
    pub(crate) async fn first(store: &dyn Store, node: u8) -> Self {
        Self::open(store, node, claim(node, node, 0, 1)).await
    }

    /// A word of this session's.
    pub(crate) fn word(&self, says: Says, now: UnixMillis) -> Word {
        Word {
            account: self.account,
            writer: self.writer,
            says,
            now,
        }
    }

    pub(crate) async fn open(store: &dyn Store, node: u8, claim: WriterClaim) -> Self {
        let request = append_request(node, Some(granted(node, node, Scope::Append, 1)), claim);
        let (account, state) = store.open_session(request).await.unwrap();
        Self {
            account,
            writer: Writer::from(&claim),
            timeline: TimelineId([node; 16]),
            head: state.head,
        }
    }

    /// A record of any place; `fill` makes its bytes differ.
    pub(crate) fn record(&self, seq: u64, prev: RecordHash, fill: u8, len: usize) -> Append {
        let header = RecordHeader {
            kind: RecordKind::Batch,
            timeline: self.timeline,
            epoch: self.writer.epoch,
            seq,
            prev,
            nonce: [fill; 24],
        };
        let mut sealed = header.encode();
        sealed.resize(len, fill);
        Append {
            account: self.account,
            writer: self.writer,
            header,
            hash: record_hash(&sealed),
            sealed: sealed.into(),
            now: NOW,
        }
    }

    /// The record that comes next.
    pub(crate) fn next(&self, fill: u8) -> Append {
        self.record(self.head.seq + 1, self.head.hash, fill, RECORD_MIN)
    }

    /// Appends the record that comes next.
    pub(crate) async fn append(&mut self, store: &dyn Store, fill: u8) -> Append {
        let append = self.next(fill);
        self.head = store.append(append.clone()).await.unwrap().head;
        assert_eq!(self.head, append.header.head(append.hash));
        append
    }

    /// Goes on as if that record were the head.
    pub(crate) fn assume(&mut self, append: &Append) {
        self.head = append.header.head(append.hash);
    }

    pub(super) async fn state(&self, store: &dyn Store) -> AccountState {
        store.account(self.account, NOW).await.unwrap()
    }

    pub(super) async fn log(&self, store: &dyn Store) -> Vec<Vec<u8>> {
        let records = store.records(self.account, 0, usize::MAX).await.unwrap();
        records.into_iter().map(|record| record.sealed).collect()
    }

    /// Registers and indexes a pack of chunks of 300 bytes each.
    pub(super) async fn pack(&self, store: &dyn Store, pack: u8, chunks: &[u8]) {
        self.pack_at(store, pack, chunks, NOW).await;
    }

    /// The same, at a time.
    pub(super) async fn pack_at(&self, store: &dyn Store, pack: u8, chunks: &[u8], now: UnixMillis) {
        let mut offset = u32::try_from(PACK_PREAMBLE_LEN).unwrap();
        let mut entries = Vec::new();
        for id in chunks {
            entries.push(ChunkEntry {
                id: ChunkId([*id; 32]),
                offset: offset + 36,
                len: 300,
            });
            offset += 336;
        }
        let arrival = PackArrival {
            judged: true,
            account: self.account,
            pack: PackId([pack; 32]),
            bytes: offset.into(),
            now,
        };
        let index = PackIndex {
            account: self.account,
            pack: arrival.pack,
            chunks: entries,
            now,
        };
        store.register_pack(arrival).await.unwrap();
        store.index_pack(index).await.unwrap();
    }

    /// A commit on top of the head.
    pub(crate) fn commit(&self, snapshot: u8, parent: Option<u8>, added: &[u8], removed: &[u8]) -> Commit {
        let header = ManifestHeader {
            timeline: self.timeline,
            snapshot: SnapshotId([snapshot; 16]),
            base_seq: self.head.seq,
            base_hash: self.head.hash,
            nonce: [snapshot; 24],
        };
        let mut manifest = header.encode();
        manifest.resize(manifest.len() + PADDED_MIN + TAG_LEN, snapshot);
        let ids = |list: &[u8]| list.iter().map(|id| ChunkId([*id; 32])).collect();
        Commit {
            account: self.account,
            writer: self.writer,
            header,
            commit: SnapshotCommit {
                manifest,
                parent: parent.map(|parent| SnapshotId([parent; 16])),
                added: ids(added),
                removed: ids(removed),
            },
            now: NOW,
        }
    }
}

/// A pack of one chunk, both named by a byte.
pub(crate) fn sealed_pack(session: &Session, name: u8, now: UnixMillis) -> (PackArrival, PackIndex) {
    let (account, pack) = (session.account, PackId([name; 32]));
    let arrival = PackArrival {
        judged: true,
        account,
        pack,
        bytes: 400,
        now,
    };
    let chunks = vec![ChunkEntry {
        id: ChunkId([name; 32]),
        offset: 42,
        len: 300,
    }];
    let index = PackIndex {
        account,
        pack,
        chunks,
        now,
    };
    (arrival, index)
}
