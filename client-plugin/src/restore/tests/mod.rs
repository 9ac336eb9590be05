mod past;
mod place;
mod refused;
mod whole;

use super::*;
use crate::{
    fixtures,
    keys::Root,
    random::SharedRng,
    record::{Batch, Content, Gap, OpenError, Place, PolicyServer, Require, Sealer},
    replay::{Durability, Replay, ReplayError, companions, compare},
    snapshot::{
        self, Pace, Plan,
        testing::{FakeServer, TestRng},
    },
};
use backstop_protocol::id::{RecordHash, RunId, ServerKey, SnapshotId, TimelineId};
use bytes::Bytes;
use rusqlite::Connection;
use std::{fs, process::Command};

const NODE: NodeId = NodeId([2; 33]);
pub(crate) const TIMELINE: TimelineId = TimelineId([1; 16]);
const SERVER: ServerKey = ServerKey([4; 32]);
pub(crate) const RUN: RunId = RunId([5; 16]);

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000)
    }
}

/// A node, its server, and an empty directory to restore into.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: FakeServer,
    pub(crate) keys: Arc<Keys>,
    pub(crate) sealer: Sealer,
    rng: SharedRng,
    pub(crate) head: Head,
    epoch: u64,
    pub(crate) live: Replay,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::derive(&Root::from_bytes([1; 32])));
        fs::create_dir(dir.path().join("to")).unwrap();
        let world = Self {
            live: Replay::open(&dir.path().join("live"), Durability::Off).unwrap(),
            sealer: Sealer::new(&keys.record),
            server: FakeServer::default(),
            rng: SharedRng::new(TestRng::new(3)),
            head: Head::EMPTY,
            epoch: 1,
            keys,
            dir,
        };
        world.server.held().page = 1 << 12;
        world
    }

    /// A node with an existing database and twenty batches.
    pub(crate) fn busy() -> Self {
        let mut world = Self::new();
        world.start(NODE);
        for _ in 0..19 {
            world.pay();
        }
        world
    }

    pub(crate) fn start(&mut self, node: NodeId) {
        self.batch(&[
            "CREATE TABLE vars (name TEXT, val TEXT, intval INTEGER, blobval BLOB, PRIMARY KEY (name));"
                .to_owned(),
            "INSERT INTO vars (name, intval) VALUES ('data_version', 0)".to_owned(),
            format!("INSERT INTO vars (name, blobval) VALUES ('node_id', x'{node}')"),
            "CREATE TABLE peers (id INTEGER PRIMARY KEY)".to_owned(),
            "CREATE TABLE payments (id INTEGER PRIMARY KEY, peer INTEGER REFERENCES peers(id), secret BLOB)"
                .to_owned(),
            "INSERT INTO peers VALUES (1)".to_owned(),
        ]);
    }

    pub(crate) fn pay(&mut self) {
        self.batch(&["INSERT INTO payments (peer, secret) VALUES (1, zeroblob(1000))".to_owned()]);
    }

    pub(crate) fn batch(&mut self, statements: &[String]) {
        let before = self.live.data_version().unwrap_or_default();
        let update =
            format!("UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {before}");
        let batch = Batch {
            run: RUN,
            opens_run: before == 0,
            outside_transaction: false,
            data_version: before + 1,
            statements: statements
                .iter()
                .cloned()
                .chain([update])
                .map(String::into_bytes)
                .collect(),
        };
        self.live.apply(&batch).unwrap();
        self.append(&Content::Batch(batch));
    }

    pub(crate) fn append(&mut self, content: &Content) {
        let prev = if self.head.seq == 0 {
            RecordHash::NONE
        } else {
            self.head.hash
        };
        let place = Place {
            timeline: TIMELINE,
            epoch: self.epoch,
            seq: self.head.seq + 1,
            prev,
        };
        let sealed = self.sealer.seal(place, content, &mut self.rng).unwrap();
        self.head = sealed.header.head(sealed.hash);
        self.server
            .held()
            .log
            .push((UnixMillis(500 + place.seq), sealed.bytes));
    }

    /// The live database as it is, as a snapshot of the head.
    fn plan(&self, name: u8) -> Plan<'static> {
        let copy = self.dir.path().join(format!("copy{name}"));
        fs::copy(self.dir.path().join("live"), &copy).unwrap();
        // Leaked: a few paths in a test.
        let copy: &Path = Box::leak(copy.into_boxed_path());
        Plan {
            database: copy,
            notes: copy,
            base: snapshot::Base {
                timeline: TIMELINE,
                seq: self.head.seq,
                hash: self.head.hash,
            },
            snapshot: SnapshotId([name; 16]),
            data_version: self.live.data_version().unwrap(),
            policy: None,
            parent: None,
            pace: Pace::Full,
        }
    }

    fn upload(&mut self, plan: &Plan<'_>) {
        wait(snapshot::upload(
            &self.server,
            &self.keys,
            plan,
            &self.rng,
            &mut |_, _| {},
        ))
        .unwrap();
    }

    pub(crate) fn snapshot(&mut self, name: u8) {
        let plan = self.plan(name);
        self.upload(&plan);
    }

    /// The database goes on without a word to us.
    fn go_on_outside(&mut self, sql: &str) {
        self.live.database().execute_batch(sql).unwrap();
        let (aside, live) = (self.dir.path().join("aside"), self.dir.path().join("live"));
        let parked = Replay::open(&aside, Durability::Off).unwrap();
        std::mem::replace(&mut self.live, parked).finish().unwrap();
        self.live = Replay::open(&live, Durability::Off).unwrap();
    }

    pub(crate) fn drop_log_up_to(&self, seq: u64) {
        let seq = usize::try_from(seq).unwrap();
        self.server.held().log.drain(..seq);
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("to").join("lightningd.sqlite3")
    }

    fn left(&self) -> usize {
        fs::read_dir(self.dir.path().join("to")).unwrap().count()
    }

    fn restore_with(
        &self,
        keys: &Arc<Keys>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Restored, RestoreError> {
        let target = self.target();
        let request = Request {
            keys,
            node: NODE,
            server: SERVER,
            policy: None,
            goal: Goal::Fenced(self.head),
            until: None,
            database: &target,
        };
        wait(restore(&self.server, &request, &StoppedClock, progress))
    }

    fn restore(&self) -> Result<Restored, RestoreError> {
        self.restore_with(&self.keys, &mut |_| {})
    }

    /// The restore succeeds and gives what the node had.
    fn comes_back(&self) -> Restored {
        let restored = self.restore().unwrap();
        let conn = Connection::open(self.target()).unwrap();
        assert_eq!(compare::difference(self.live.database(), &conn).unwrap(), None);
        drop(conn);
        assert_eq!(self.left(), 1, "the database alone");
        fs::remove_file(self.target()).unwrap();
        restored
    }

    /// The restore fails and leaves nothing.
    fn refuses(&self) -> RestoreError {
        let error = self.restore().unwrap_err();
        assert_eq!(self.left(), 0, "{error}");
        error
    }

    /// Replaces a record of the log by another one of the same seq.
    fn tamper(&self, seq: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let mut held = self.server.held();
        let first = backstop_protocol::record::RecordHeader::parse(&held.log[0].1)
            .unwrap()
            .seq;
        let at = usize::try_from(seq - first).unwrap();
        let mut bytes = held.log[at].1.to_vec();
        change(&mut bytes);
        held.log[at].1 = Bytes::from(bytes);
    }
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}
