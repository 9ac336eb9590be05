//! A server in this process, and a client that does by hand what SPEC says: no line of the plugin's own client, so that a
//! mistake of both sides does not hide itself.

mod browser;
mod client;
#[path = "../../../tests/src/cluster.rs"]
#[expect(unreachable_pub, reason = "another crate has this file too, and shows it")]
mod cluster;
mod cut;
mod node;
mod storage;
mod wire;

pub(crate) use browser::{Browser, text_to_sign};
pub(crate) use client::{Client, pack};
pub(crate) use cluster::Cluster;
pub(crate) use cut::{Fault, Hop};
pub(crate) use node::Node;
pub(crate) use storage::{KEY_ID, SECRET, Storage, tools};
pub(crate) use wire::{Answer, Connection};

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
use backstop_server::{Certificates, Config, Server};
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
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
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
    /// Where `/metrics` is asked for, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) certificates: Option<Arc<Certificates>>,
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
        let (metrics, certificates) = (server.metrics_addr(), server.certificates());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let shutdown = async move { stopped.await.unwrap_or(()) };
            server.run(shutdown).await;
        });
        Self {
            place,
            metrics,
            certificates,
            clock,
            data,
            dir,
            stop: Some(stop),
            running,
        }
    }

    /// One count of the metrics, which must be asked for in the configuration; nought where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = plain_get(self.metrics.unwrap(), "/metrics").await;
        assert!(text.ends_with("# EOF\n"), "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
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
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.begin_stop();
        Self::start_in(self.stopped().await, change).await
    }
}

impl Deref for TestServer {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// Status and text of what is no part of the API.
pub(crate) async fn plain_get(addr: SocketAddr, path: &str) -> (u16, String) {
    let answer = Connection::open(addr).await.request("GET", path, &[], b"").await;
    (answer.status, String::from_utf8(answer.body).unwrap())
}
