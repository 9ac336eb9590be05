//! An open session.

use super::*;

/// An open session, and the chain it writes.
pub(crate) struct Client {
    pub(crate) token: String,
    pub(crate) key: SessionKey,
    pub(crate) counter: u64,
    pub(crate) connection: Connection,
    pub(crate) timeline: TimelineId,
    pub(crate) epoch: u64,
    pub(crate) head: Head,
}

impl Client {
    /// The `Authorization` of the next request, and its MAC.
    pub(crate) fn authorize(&mut self, method: &str, path: &str, body: &[u8]) -> (String, [u8; 32]) {
        self.counter += 1;
        let mac = self.key.request_mac(method, path, self.counter, &sha256(body));
        let header = format!(
            "{} {} {} {}",
            api::AUTH_SCHEME,
            self.token,
            self.counter,
            hex::encode(mac)
        );
        (header, mac)
    }

    /// One call; the answer's MAC must fit, whatever the answer is.
    pub(crate) async fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        let (header, mac) = self.authorize(method, path, body);
        let answer = self
            .connection
            .request(method, path, &[("authorization", &header)], body)
            .await;
        self.check(&answer, &mac);
        answer
    }

    pub(crate) fn check(&self, answer: &Answer, request_mac: &[u8; 32]) {
        let mac = self
            .key
            .answer_mac(request_mac, answer.status, &sha256(&answer.body));
        assert!(same(&mac, &answer.mac().expect("a MAC")));
    }

    pub(crate) async fn state(&mut self) -> AccountState {
        self.call("GET", api::HEAD, b"").await.json()
    }

    pub(crate) fn record(&self, epoch: u64, seq: u64, prev: RecordHash, fill: u8, len: usize) -> Vec<u8> {
        let header = RecordHeader {
            kind: RecordKind::Batch,
            timeline: self.timeline,
            epoch,
            seq,
            prev,
            nonce: [fill; 24],
        };
        let mut sealed = header.encode();
        sealed.resize(len, fill);
        sealed
    }

    /// The record that comes next.
    pub(crate) fn next(&self, fill: u8) -> Vec<u8> {
        self.record(self.epoch, self.head.seq + 1, self.head.hash, fill, RECORD_MIN)
    }

    pub(crate) async fn try_append(&mut self, sealed: &[u8]) -> Answer {
        self.call("POST", api::RECORDS, sealed).await
    }

    /// Appends the record that comes next.
    pub(crate) async fn append(&mut self, fill: u8) -> Vec<u8> {
        let sealed = self.next(fill);
        let appended: Appended = self.try_append(&sealed).await.json();
        assert_eq!(appended.head.hash, record_hash(&sealed));
        assert!(!appended.roll_up);
        self.head = appended.head;
        sealed
    }

    /// The whole log, page by page.
    pub(crate) async fn log(&mut self) -> Vec<Vec<u8>> {
        let mut log = Vec::new();
        loop {
            let answer = self
                .call("GET", &format!("{}?from={}", api::RECORDS, log.len() + 1), b"")
                .await;
            let frames = api::parse_frames(answer.octets()).unwrap();
            if frames.is_empty() {
                return log;
            }
            log.extend(frames.into_iter().map(|(_, sealed)| sealed.to_vec()));
        }
    }

    /// Uploads a pack of chunks named by bytes, each of 300 bytes of the same.
    pub(crate) async fn put_pack(&mut self, chunks: &[u8]) -> PackId {
        let (id, bytes) = pack(chunks);
        let answer = self.call("PUT", &format!("{}/{id}", api::PACKS), &bytes).await;
        assert_eq!(answer.octets(), b"");
        id
    }

    /// A commit on top of the head.
    pub(crate) fn commit(
        &self,
        snapshot: u8,
        parent: Option<u8>,
        added: &[u8],
        removed: &[u8],
    ) -> SnapshotCommit {
        let header = ManifestHeader {
            timeline: self.timeline,
            snapshot: SnapshotId([snapshot; 16]),
            base_seq: self.head.seq,
            base_hash: self.head.hash,
            nonce: [snapshot; 24],
        };
        let mut manifest = header.encode();
        manifest.resize(manifest.len() + api::PADDED_MIN + TAG_LEN, snapshot);
        SnapshotCommit {
            manifest,
            parent: parent.map(|parent| SnapshotId([parent; 16])),
            added: added.iter().map(|id| ChunkId([*id; 32])).collect(),
            removed: removed.iter().map(|id| ChunkId([*id; 32])).collect(),
        }
    }

    pub(crate) async fn try_commit(&mut self, commit: &SnapshotCommit) -> Answer {
        self.call("POST", api::SNAPSHOTS, &commit.encode()).await
    }
}

pub(crate) fn pack(chunks: &[u8]) -> (PackId, Vec<u8>) {
    let mut builder = PackBuilder::default();
    for id in chunks {
        builder.push(ChunkId([*id; 32]), &[*id; 300]);
    }
    builder.finish()
}
