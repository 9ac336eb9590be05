//! A server in this process, and a client that does by hand what SPEC says: no line of the plugin's own client, so that a
//! mistake of both sides does not hide itself.

use backstop_protocol::{
    api::{self, AccountState, Appended, MAC_HEADER, SessionOpened},
    clock::{Clock, UnixMillis},
    grant::{Grant, Scope, SignedGrant},
    hash::{same, sha256},
    head::Head,
    id::{
        ChunkId, InstanceId, Network, NodeId, PackId, RecordHash, RunId, ServerKey, SnapshotId, TimelineId,
    },
    pack::PackBuilder,
    problem::{PROBLEM_JSON, Problem, ProblemCode},
    record::{RECORD_MIN, RecordHeader, RecordKind, TAG_LEN, record_hash},
    session::{IdentitySecret, Opening, SessionKey, SignedOpening, WriterClaim},
    snapshot::{ManifestHeader, SnapshotCommit},
};
use backstop_server::{Config, Server};
use getrandom::{SysRng, rand_core::UnwrapErr};
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    fmt::Write as _,
    net::SocketAddr,
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// A clock that stands still until it is moved.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

/// Where a server is and who.
pub(crate) struct Place {
    pub(crate) addr: SocketAddr,
    pub(crate) key: ServerKey,
}

impl Place {
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.addr).await
    }

    /// One request on a connection of its own, without a session.
    pub(crate) async fn request(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.connect().await.request(method, path, &[], body).await
    }
}

/// A server that ends with the test.
pub(crate) struct TestServer {
    place: Place,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) data: PathBuf,
    dir: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), change).await
    }

    async fn start_in(dir: Arc<TempDir>, change: impl FnOnce(&mut Config)) -> Self {
        let data = dir.path().join("data");
        let mut config = Config::new(data.clone());
        config.listen.set_port(0);
        change(&mut config);
        let clock = Arc::new(HandClock(AtomicU64::new(1_700_000_000_000)));
        let server = Server::bind(config, clock.clone(), &mut UnwrapErr(SysRng))
            .await
            .unwrap();
        let place = Place {
            addr: server.local_addr(),
            key: server.server_key(),
        };
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let shutdown = async move { stopped.await.unwrap_or(()) };
            server.run(shutdown).await.unwrap();
        });
        Self {
            place,
            clock,
            data,
            dir,
            stop: Some(stop),
            running,
        }
    }

    /// Asks it to stop; it may have requests to finish.
    pub(crate) fn begin_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn stopped(self) -> Arc<TempDir> {
        self.running.await.unwrap();
        self.dir
    }

    /// Stops and starts again over the same data.
    pub(crate) async fn restart(mut self) -> Self {
        self.begin_stop();
        Self::start_in(self.stopped().await, |_| ()).await
    }
}

impl Deref for TestServer {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn octets(&self) -> &[u8] {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], api::OCTETS);
        &self.body
    }

    /// The refusal, which must be a problem document that agrees with itself.
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(
            self.headers["content-type"],
            PROBLEM_JSON,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            (problem.status, problem.code.status()),
            (self.status, self.status)
        );
        assert_eq!(problem.kind, format!("urn:backstop:problem:{}", problem.code));
        assert_eq!(problem.title, problem.code.title());
        problem
    }

    pub(crate) fn refused(&self, code: ProblemCode) -> Problem {
        let problem = self.problem();
        assert_eq!(problem.code, code, "{problem}");
        problem
    }

    pub(crate) fn mac(&self) -> Option<[u8; 32]> {
        let mut mac = [0; 32];
        hex::decode_to_slice(self.headers.get(MAC_HEADER)?, &mut mac).unwrap();
        Some(mac)
    }
}

/// A connection that is kept alive.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(addr).await.unwrap()))
    }

    /// Sends whatever bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        let whole = [head.as_bytes(), b"\r\n", body].concat();
        // A refusal may come before the body is taken.
        let _ = self.0.write_all(&whole).await;
        self.answer().await.expect("an answer")
    }

    /// The next answer; `None` where the server hung up instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let len = headers
            .get("content-length")
            .map_or(0, |len| len.parse().unwrap());
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).await.unwrap();
        Some(Answer {
            status,
            headers,
            body,
        })
    }
}

/// A node with its keys. What differs between nodes follows from one byte.
pub(crate) struct Node {
    byte: u8,
    pub(crate) secret: secp256k1::SecretKey,
    pub(crate) access: IdentitySecret,
}

impl Node {
    pub(crate) fn new(byte: u8) -> Self {
        Self {
            byte,
            secret: secp256k1::SecretKey::from_secret_bytes([byte; 32]).unwrap(),
            access: IdentitySecret::from_bytes(&[byte + 100; 32]).unwrap(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId(self.secret.public_key().serialize())
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant {
            access_key: self.access.access_key(),
            scope: Scope::Append,
            node: self.id(),
            network: Network::Regtest,
            serial: 1,
            expires_at: None,
        }
    }

    pub(crate) fn claim(&self, expected_epoch: u64, epoch: u64) -> WriterClaim {
        WriterClaim {
            instance: InstanceId([self.byte; 16]),
            run: RunId([u8::try_from(epoch).unwrap(); 16]),
            expected_epoch,
            epoch,
            takeover: false,
        }
    }

    /// An append opening that shows the node's own grant.
    pub(crate) fn opening(&self, server: &Place, claim: WriterClaim) -> Opening {
        Opening {
            server: server.key,
            node: self.id(),
            network: Network::Regtest,
            access_key: self.access.access_key(),
            grant: Some(SignedGrant::sign(&self.grant(), &self.secret)),
            scope: Scope::Append,
            writer: Some(claim),
            // Shown to people, never judged.
            time: UnixMillis(0),
        }
    }

    /// A read opening that shows no grant.
    pub(crate) fn read_opening(&self, server: &Place) -> Opening {
        Opening {
            grant: None,
            scope: Scope::Read,
            writer: None,
            ..self.opening(server, self.claim(0, 1))
        }
    }

    pub(crate) fn signed(&self, opening: Opening) -> SignedOpening {
        opening.sign(&self.access, &[7; 32]).unwrap()
    }

    /// Posts an opening, and checks the MAC that every answer to a signed one carries.
    pub(crate) async fn post(&self, server: &Place, signed: &SignedOpening) -> Answer {
        let body = serde_json::to_vec(signed).unwrap();
        let answer = server.request("POST", api::SESSIONS, &body).await;
        let key = self.access.shared_with(&server.key.0).unwrap().opening_key(&body);
        let mac = key.answer_mac(&[0; 32], answer.status, &sha256(&answer.body));
        assert!(same(&mac, &answer.mac().expect("a MAC")));
        answer
    }

    pub(crate) async fn try_open(&self, server: &Place, opening: Opening) -> Answer {
        self.post(server, &self.signed(opening)).await
    }

    pub(crate) async fn open(&self, server: &Place, opening: Opening) -> Client {
        let opened: SessionOpened = self.try_open(server, opening).await.json();
        assert_eq!(opened.expires_in_ms, api::TOKEN_LIFE_MS);
        Client {
            key: self
                .access
                .shared_with(&server.key.0)
                .unwrap()
                .session_key(&opened.token),
            token: opened.token,
            counter: 0,
            connection: server.connect().await,
            timeline: TimelineId([self.byte; 16]),
            epoch: opened.account.epoch,
            head: opened.account.head,
        }
    }

    /// The first session of a new account, at epoch 1.
    pub(crate) async fn first(&self, server: &Place) -> Client {
        self.open(server, self.opening(server, self.claim(0, 1))).await
    }
}

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
