use super::*;
use crate::{
    fixtures,
    keys::Root,
    record::{Batch, Content, Gap, OpenError, Place, PolicyServer, Require, Sealer},
    replay::{Durability, Replay, ReplayError, companions, compare},
    snapshot::{
        self, Plan,
        testing::{FakeServer, TestRng},
    },
};
use backstop_protocol::{
    id::{RecordHash, RunId, ServerKey, SnapshotId, TimelineId},
    record::record_hash,
};
use bytes::Bytes;
use rusqlite::Connection;
use std::{fs, process::Command};

const NODE: NodeId = NodeId([2; 33]);
const TIMELINE: TimelineId = TimelineId([1; 16]);
const RUN: RunId = RunId([5; 16]);

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000)
    }
}

/// A node, its server, and an empty directory to restore into.
struct World {
    dir: tempfile::TempDir,
    server: FakeServer,
    keys: Keys,
    sealer: Sealer,
    rng: TestRng,
    head: Head,
    epoch: u64,
    live: Replay,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::derive(&Root::from_bytes([1; 32]));
        fs::create_dir(dir.path().join("to")).unwrap();
        let world = Self {
            live: Replay::open(&dir.path().join("live"), Durability::Off).unwrap(),
            sealer: Sealer::new(&keys.record),
            server: FakeServer::default(),
            rng: TestRng::new(3),
            head: Head::EMPTY,
            epoch: 1,
            keys,
            dir,
        };
        world.server.held().page = 1 << 12;
        world
    }

    /// A node with an existing database and twenty batches.
    fn busy() -> Self {
        let mut world = Self::new();
        world.start(NODE);
        for _ in 0..19 {
            world.pay();
        }
        world
    }

    fn start(&mut self, node: NodeId) {
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

    fn pay(&mut self) {
        self.batch(&["INSERT INTO payments (peer, secret) VALUES (1, zeroblob(1000))".to_owned()]);
    }

    fn batch(&mut self, statements: &[String]) {
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

    fn append(&mut self, content: &Content) {
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
        Plan {
            // Leaked: a few paths in a test.
            database: Box::leak(copy.into_boxed_path()),
            base: snapshot::Base {
                timeline: TIMELINE,
                seq: self.head.seq,
                hash: self.head.hash,
            },
            snapshot: SnapshotId([name; 16]),
            data_version: self.live.data_version().unwrap(),
            policy: None,
            parent: None,
        }
    }

    fn upload(&mut self, plan: &Plan<'_>) {
        wait(snapshot::upload(
            &self.server,
            &self.keys,
            plan,
            &mut self.rng,
            &mut |_, _| {},
        ))
        .unwrap();
    }

    fn snapshot(&mut self, name: u8) {
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

    fn drop_log_up_to(&self, seq: u64) {
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
        keys: &Keys,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Restored, RestoreError> {
        let target = self.target();
        let request = Request {
            keys,
            node: NODE,
            fenced: self.head,
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

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_node_comes_back_from_its_first_record_on() {
    let world = World::busy();
    let mut heard = Vec::new();
    let restored = world
        .restore_with(&world.keys, &mut |step| heard.push(step))
        .unwrap();
    assert_eq!(restored.head, world.head);
    assert_eq!((restored.data_version, restored.records), (20, 20));
    assert_eq!(restored.received_at, Some(UnixMillis(520)));
    assert_eq!(
        (restored.snapshot, restored.node, restored.orphans),
        (None, Some(NODE), 0)
    );
    assert_eq!(restored.database_len, fs::metadata(world.target()).unwrap().len());
    assert_eq!(heard.first(), Some(&Progress::Records { done: 0, total: 20 }));
    assert!(heard.contains(&Progress::Records { done: 20, total: 20 }));
    assert_eq!(heard.last(), Some(&Progress::Checking));
    fs::remove_file(world.target()).unwrap();
    world.comes_back();
}

#[test]
fn a_node_comes_back_from_a_snapshot_and_the_records_after_it() {
    let mut world = World::busy();
    world.snapshot(1);
    world.sealer.restart();
    for _ in 0..5 {
        world.pay();
    }
    let restored = world.comes_back();
    assert_eq!((restored.data_version, restored.records), (25, 5));
    assert_eq!(restored.snapshot.map(|info| info.base_seq), Some(20));
    world.drop_log_up_to(20);
    assert_eq!(world.comes_back().records, 5);
    world.snapshot(2);
    let restored = world.comes_back();
    assert_eq!(
        (restored.records, restored.received_at),
        (0, Some(UnixMillis(525)))
    );
}

#[test]
fn records_whose_context_began_before_the_snapshot_are_read_from_there_on() {
    let mut world = World::busy();
    world.snapshot(1);
    for _ in 0..5 {
        world.pay();
    }
    assert_eq!(world.comes_back().records, 5);
    world.drop_log_up_to(10);
    assert!(matches!(
        world.refuses(),
        RestoreError::Chain(BadChain::Seq {
            expected: 1,
            found: 11
        })
    ));
}

#[test]
fn the_highest_snapshot_on_the_chain_is_taken_and_one_that_is_not_on_it_is_passed_over() {
    let mut world = World::busy();
    world.snapshot(1);
    world.pay();
    world.snapshot(2);
    world.server.held().snapshots[1].0.base_hash = RecordHash([7; 32]);
    world.pay();
    let restored = world.comes_back();
    assert_eq!(
        restored.snapshot.map(|info| info.snapshot),
        Some(SnapshotId([1; 16]))
    );
    world.server.held().snapshots.remove(0);
    assert_eq!(
        world.comes_back().snapshot,
        None,
        "the log still has its first record"
    );
    world.drop_log_up_to(1);
    assert!(matches!(world.refuses(), RestoreError::NoBase { first_seq: 2 }));
}

#[test]
fn a_gap_is_restored_from_the_snapshot_that_bridges_it_and_from_nothing_else() {
    let mut world = World::busy();
    world.snapshot(1);
    world.go_on_outside(
        "UPDATE vars SET intval = 23 WHERE name = 'data_version'; INSERT INTO peers VALUES (77)",
    );
    let gap = Gap {
        run: RUN,
        opens_run: false,
        data_version: 23,
        snapshot: SnapshotId([9; 16]),
    };
    world.append(&Content::Gap(gap));
    assert!(
        matches!(world.refuses(), RestoreError::Gap { seq: 21, snapshot } if snapshot == SnapshotId([9; 16]))
    );
    world.snapshot(9);
    world.pay();
    let restored = world.comes_back();
    assert_eq!((restored.data_version, restored.records), (24, 1));
}

#[test]
fn the_last_policy_is_found_in_the_log_or_in_the_manifest() {
    let mut world = World::busy();
    let policy = |url: &str| Policy {
        run: RUN,
        opens_run: false,
        servers: vec![PolicyServer {
            url: url.to_owned(),
            key: ServerKey([4; 32]),
        }],
        require: Require::All,
    };
    world.append(&Content::Policy(policy("https://one")));
    assert_eq!(world.comes_back().policy, Some(policy("https://one")));
    let sealed = world.server.held().log.last().unwrap().1.to_vec();
    world.upload(&Plan {
        policy: Some(sealed),
        ..world.plan(1)
    });
    world.drop_log_up_to(20);
    assert_eq!(world.comes_back().policy, Some(policy("https://one")));
    world.append(&Content::Policy(policy("https://two")));
    assert_eq!(world.comes_back().policy, Some(policy("https://two")));
    // A batch in the policy's place.
    let batch = World::busy().server.held().log[0].1.to_vec();
    world.upload(&Plan {
        policy: Some(batch),
        ..world.plan(2)
    });
    assert!(matches!(world.refuses(), RestoreError::Foreign(_)));
}

#[test]
fn an_account_without_a_batch_has_nothing_to_restore() {
    let mut world = World::new();
    assert!(matches!(world.refuses(), RestoreError::Nothing));
    world.append(&Content::Policy(Policy {
        run: RUN,
        opens_run: true,
        servers: vec![PolicyServer {
            url: "https://one".to_owned(),
            key: ServerKey([4; 32]),
        }],
        require: Require::All,
    }));
    assert!(matches!(world.refuses(), RestoreError::Nothing));
}

#[test]
fn a_record_that_was_changed_left_out_doubled_or_moved_is_refused() {
    let world = World::busy();
    let whole = world.server.held().log.clone();
    let with = |change: &dyn Fn(&mut Vec<(UnixMillis, Bytes)>)| {
        world.server.held().log.clone_from(&whole);
        change(&mut world.server.held().log);
        let error = world.refuses();
        world.server.held().log.clone_from(&whole);
        error
    };
    world.tamper(7, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let error = world.refuses();
    assert!(
        matches!(
            error,
            RestoreError::Record {
                seq: 7,
                error: OpenError::BadSeal
            }
        ),
        "{error}"
    );
    assert!(matches!(
        with(&|log| drop(log.remove(4))),
        RestoreError::Chain(BadChain::Seq {
            expected: 5,
            found: 6
        })
    ));
    assert!(matches!(
        with(&|log| log.swap(4, 5)),
        RestoreError::Chain(BadChain::Seq { .. })
    ));
    let twice = |log: &mut Vec<(UnixMillis, Bytes)>| {
        let again = log[4].clone();
        log.insert(5, again);
    };
    assert!(matches!(
        with(&twice),
        RestoreError::Chain(BadChain::Seq {
            expected: 6,
            found: 5
        })
    ));
    let cut = |log: &mut Vec<(UnixMillis, Bytes)>| {
        let short = log[4].1.slice(..100);
        log[4].1 = short;
    };
    world.server.held().log.clone_from(&whole);
    // The fake server cannot list a record that has no header; a real one may.
    let mut chain = chain::Chain::enter(TIMELINE, 5, None);
    let mut log = whole.clone();
    cut(&mut log);
    assert!(matches!(
        chain.take(&log[4].1),
        Err(BadChain::Malformed { seq: 5, .. })
    ));
    world.comes_back();
}

#[test]
fn a_record_of_another_node_or_another_history_is_refused() {
    let world = World::busy();
    let other = Keys::derive(&Root::from_bytes([9; 32]));
    let error = world.restore_with(&other, &mut |_| {}).unwrap_err();
    assert!(
        matches!(
            error,
            RestoreError::Record {
                seq: 1,
                error: OpenError::BadSeal
            }
        ),
        "{error}"
    );
    assert_eq!(world.left(), 0);
    world.tamper(5, |bytes| bytes[6] ^= 1);
    assert!(matches!(
        world.refuses(),
        RestoreError::Chain(BadChain::Timeline { seq: 5, .. })
    ));
}

#[test]
fn a_chain_that_forks_or_whose_epoch_falls_is_refused() {
    let world = World::busy();
    let fork = World::busy();
    world.server.held().log[9] = fork.server.held().log[9].clone();
    // Same seed, same bytes: a real fork differs in its nonce.
    world.tamper(10, |bytes| bytes[40] ^= 1);
    assert!(matches!(
        world.refuses(),
        RestoreError::Chain(BadChain::Prev { seq: 10 })
    ));

    let mut world = World::busy();
    world.epoch = 5;
    world.pay();
    world.epoch = 4;
    world.pay();
    assert!(matches!(
        world.refuses(),
        RestoreError::Chain(BadChain::Epoch { seq: 22 })
    ));
}

#[test]
fn a_log_that_ends_before_its_head_or_in_another_record_is_refused() {
    let world = World::busy();
    let last = world.server.held().log.pop().unwrap();
    let head = world.head;
    assert!(matches!(world.refuses(), RestoreError::Moved { fenced, .. } if fenced == head));
    world.server.held().log.push(last);
    let mut chain = chain::Chain::enter(TIMELINE, 1, None);
    for (_, sealed) in &world.server.held().log[..19] {
        chain.take(sealed).unwrap();
    }
    assert_eq!(
        chain.end(&head),
        Err(BadChain::Short {
            reached: 19,
            head: 20
        })
    );
    chain.take(&world.server.held().log[19].1).unwrap();
    assert_eq!(chain.end(&head), Ok(()));
    let other = Head {
        hash: RecordHash([8; 32]),
        ..head
    };
    assert!(matches!(chain.end(&other), Err(BadChain::Head { .. })));
}

#[test]
fn nothing_is_put_in_place_where_somebody_wrote_after_the_fence() {
    let mut world = World::busy();
    let fenced = world.head;
    world.pay();
    let target = world.target();
    let request = Request {
        keys: &world.keys,
        node: NODE,
        fenced,
        database: &target,
    };
    let error = wait(restore(&world.server, &request, &StoppedClock, &mut |_| {})).unwrap_err();
    assert!(matches!(error, RestoreError::Moved { .. }));

    // At the last moment: the log grows when everything was checked.
    let fenced = world.head;
    let server = &world.server;
    let late = world.server.held().log[0].clone();
    let mut grow = |step| {
        if step == Progress::Checking {
            server.held().log.push(late.clone());
        }
    };
    let request = Request {
        keys: &world.keys,
        node: NODE,
        fenced,
        database: &target,
    };
    let error = wait(restore(server, &request, &StoppedClock, &mut grow)).unwrap_err();
    assert!(matches!(error, RestoreError::Moved { .. }), "{error}");
    assert_eq!(world.left(), 0);
}

#[test]
fn batches_that_do_not_fit_the_database_are_refused() {
    for (version, from) in [(22, 20), (21, 19), (20, 19)] {
        let mut world = World::busy();
        let update =
            format!("UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {from}");
        let batch = Batch {
            run: RUN,
            opens_run: false,
            outside_transaction: false,
            data_version: version,
            statements: vec![update.into_bytes()],
        };
        world.append(&Content::Batch(batch));
        assert!(matches!(
            world.refuses(),
            RestoreError::Replay {
                seq: 21,
                error: ReplayError::Version { .. }
            }
        ));
    }
}

#[test]
fn a_database_of_another_node_or_at_another_version_than_its_manifest_is_refused() {
    let mut world = World::new();
    world.start(NodeId([3; 33]));
    assert!(matches!(
        world.refuses(),
        RestoreError::Node {
            found: NodeId([3, ..]),
            ..
        }
    ));

    let mut world = World::busy();
    world.upload(&Plan {
        data_version: 19,
        ..world.plan(1)
    });
    assert!(matches!(
        world.refuses(),
        RestoreError::Version {
            expected: 19,
            found: Some(20)
        }
    ));
}

#[test]
fn rows_without_parents_are_an_error_unless_the_snapshot_brought_them() {
    let mut world = World::busy();
    world
        .live
        .database()
        .execute_batch("PRAGMA foreign_keys=OFF")
        .unwrap();
    world
        .live
        .database()
        .execute_batch("INSERT INTO payments (id, peer) VALUES (500, 99)")
        .unwrap();
    world.snapshot(1);
    world.pay();
    assert_eq!(world.comes_back().orphans, 1);

    // A node that had enforcement off writes one more: the log would not replay to a sound database.
    let off = Batch {
        run: RUN,
        opens_run: false,
        outside_transaction: true,
        data_version: 21,
        statements: vec![b"PRAGMA foreign_keys = OFF;".to_vec()],
    };
    world.append(&Content::Batch(off));
    world.batch(&["INSERT INTO payments (id, peer) VALUES (600, 98)".to_owned()]);
    assert!(matches!(
        world.refuses(),
        RestoreError::Orphan { rowid: Some(600), .. }
    ));
}

#[test]
fn a_manifest_that_is_damaged_or_of_another_snapshot_is_refused() {
    let mut world = World::busy();
    world.snapshot(1);
    let manifest = world.server.held().snapshots[0].1.manifest.clone();
    world.server.held().snapshots[0].1.manifest[150] ^= 1;
    assert!(matches!(world.refuses(), RestoreError::Manifest { .. }));
    world.server.held().snapshots[0].1.manifest = manifest;
    world.server.held().snapshots[0].0.snapshot = SnapshotId([4; 16]);
    assert!(matches!(world.refuses(), RestoreError::Foreign(name) if name == SnapshotId([4; 16])));
}

#[test]
fn a_missing_or_damaged_chunk_is_an_error_that_leaves_nothing() {
    let mut world = World::busy();
    world.snapshot(1);
    let (id, place) = world
        .server
        .held()
        .places
        .iter()
        .next()
        .map(|(id, place)| (*id, *place))
        .unwrap();
    world.server.held().places.remove(&id);
    assert!(matches!(
        world.refuses(),
        RestoreError::Fetch(FetchError::Missing(_))
    ));
    world.server.held().places.insert(id, place);
    world.server.held().packs.get_mut(&place.pack).unwrap()[place.offset as usize + 60] ^= 1;
    assert!(matches!(
        world.refuses(),
        RestoreError::Fetch(FetchError::Damaged { .. })
    ));
}

#[test]
fn an_existing_database_or_journal_is_never_touched() {
    let world = World::busy();
    let target = world.target();
    for path in companions(&target).iter().chain([&target]) {
        fs::write(path, b"precious").unwrap();
        let error = world.restore().unwrap_err();
        assert!(
            matches!(&error, RestoreError::Exists(named) if named == path),
            "{error}"
        );
        assert_eq!(fs::read(path).unwrap(), b"precious");
        assert_eq!(world.left(), 1);
        fs::remove_file(path).unwrap();
    }
    // It appears while the restore is at work.
    let error = world
        .restore_with(&world.keys, &mut |step| {
            if step == Progress::Checking {
                fs::write(&target, b"precious").unwrap();
            }
        })
        .unwrap_err();
    assert!(matches!(error, RestoreError::Exists(_)));
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(world.left(), 1);
}

#[test]
fn what_a_killed_restore_left_is_removed_and_one_at_work_is_not_disturbed() {
    let world = World::busy();
    let left = world.dir.path().join("to/lightningd.sqlite3.restoring");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("database"), b"half").unwrap();
    fs::write(left.join("database-journal"), b"half").unwrap();
    let other = fs::File::open(&left).unwrap();
    other.lock().unwrap();
    assert!(matches!(world.restore().unwrap_err(), RestoreError::Busy(_)));
    assert_eq!(fs::read(left.join("database")).unwrap(), b"half");
    drop(other);
    world.comes_back();
}

#[test]
fn a_restore_that_is_dropped_leaves_nothing() {
    let world = World::busy();
    let target = world.target();
    let request = Request {
        keys: &world.keys,
        node: NODE,
        fenced: world.head,
        database: &target,
    };
    wait(async {
        let mut silent = |_| {};
        let mut restore = std::pin::pin!(restore(&world.server, &request, &StoppedClock, &mut silent));
        // One poll: it has begun and waits for its first page to be applied.
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(restore.as_mut().poll(context))).await;
        assert!(polled.is_pending());
    });
    assert_eq!(world.left(), 0);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_that_names_it() {
    let world = World::busy();
    fs::remove_dir(world.dir.path().join("to")).unwrap();
    let error = world.restore().unwrap_err();
    assert!(
        matches!(&error, RestoreError::Io { path, .. } if path.starts_with(world.dir.path())),
        "{error}"
    );
}

/// In a process of its own: a limit on the size of files stands for a full disk, which needs no rights to bring about.
#[test]
fn a_full_disk_is_said_as_such_and_leaves_nothing() {
    const BIG: &str = "BACKSTOP_TEST_BIG_FILE";
    let Some(big) = std::env::var_os(BIG) else {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("big");
        fs::write(&big, vec![7; 300 << 10]).unwrap();
        let name = "restore::tests::a_full_disk_is_said_as_such_and_leaves_nothing";
        // 256 blocks of 512 bytes; the signal that comes with the limit is ignored, so that the write fails.
        let script = "trap '' XFSZ; ulimit -f 256; exec \"$0\" --exact \"$1\"";
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("sh");
        let done = child
            .args(["-c", script])
            .arg(program)
            .arg(name)
            .env(BIG, &big)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        return;
    };
    let fill = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                INSERT INTO payments (peer, secret) SELECT 1, zeroblob(1000) FROM n";
    let mut world = World::busy();
    let update = "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = 20";
    let batch = Batch {
        run: RUN,
        opens_run: false,
        outside_transaction: false,
        data_version: 21,
        statements: vec![fill.into(), update.into()],
    };
    world.append(&Content::Batch(batch));
    let error = world.refuses();
    assert!(
        matches!(error, RestoreError::Full),
        "while records are applied: {error}"
    );

    let mut world = World::busy();
    let plan = Plan {
        database: Path::new(&big),
        ..world.plan(1)
    };
    world.upload(&plan);
    let error = world.refuses();
    assert!(
        matches!(error, RestoreError::Full),
        "while the snapshot is written: {error}"
    );
}

#[test]
fn a_real_node_comes_back_from_nothing_and_from_its_middle() {
    let Some(folder) = fixtures::folder() else { return };
    let mut world = World::new();
    world.server.held().page = backstop_protocol::api::RECORD_PAGE;
    let last = world.dir.path().join("final");
    fixtures::unpack(&folder, fixtures::FINAL, &last);
    let node = fixtures::node_of(&last);
    let mut sql = 0;
    for batch in fixtures::trace(&folder) {
        sql += batch.statements.iter().map(Vec::len).sum::<usize>();
        if batch.data_version <= fixtures::MID_VERSION {
            world.live.apply(&batch).unwrap();
        }
        let at_mid = batch.data_version == fixtures::MID_VERSION;
        world.append(&Content::Batch(batch));
        if at_mid {
            world.snapshot(1);
            world.sealer.restart();
        }
    }
    let snapshot = world.server.held().snapshots.pop().unwrap();
    let mid = snapshot.0.base_seq;
    let log: usize = world
        .server
        .held()
        .log
        .iter()
        .map(|(_, sealed)| sealed.len())
        .sum();
    eprintln!("{sql} bytes of SQL, {log} bytes of records");
    let last = Connection::open(last).unwrap();
    for from_mid in [false, true] {
        if from_mid {
            world.server.held().snapshots.push(snapshot.clone());
            world.drop_log_up_to(mid);
        }
        let target = world.target();
        let request = Request {
            keys: &world.keys,
            node,
            fenced: world.head,
            database: &target,
        };
        let restored = wait(restore(&world.server, &request, &StoppedClock, &mut |_| {})).unwrap();
        assert_eq!(restored.head.seq, 9914);
        assert_eq!(
            (restored.data_version, restored.snapshot.is_some()),
            (9912, from_mid)
        );
        let conn = Connection::open(&target).unwrap();
        assert_eq!(compare::difference(&conn, &last).unwrap(), None);
        drop(conn);
        fs::remove_file(target).unwrap();
    }
}
