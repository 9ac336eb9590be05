use super::*;

/// Twenty batches, a snapshot after the 20th, five more, a snapshot after the 25th, five more.
fn world() -> World {
    let mut world = World::busy();
    for name in [1, 2] {
        world.snapshot(name);
        world.sealer.restart();
        for _ in 0..5 {
            world.pay();
        }
    }
    world
}

impl World {
    fn try_at(&self, goal: Goal, until: Option<Until>) -> Result<Restored, RestoreError> {
        let target = self.target();
        let request = Request {
            keys: &self.keys,
            node: NODE,
            server: SERVER,
            policy: None,
            goal,
            until,
            database: &target,
        };
        let restored = wait(restore(&self.server, &request, &StoppedClock, &mut |_| {}));
        // What is there goes, so that the next attempt finds an empty place.
        let _ = fs::remove_file(&target);
        assert_eq!(self.left(), 0);
        restored
    }

    fn history(&self) -> History {
        let account = wait(self.server.account()).unwrap();
        wait(History::read(&self.server, account)).unwrap()
    }

    fn record_at(&self, millis: u64) -> Result<u64, Beyond> {
        wait(self.history().record_at(&self.server, UnixMillis(millis))).unwrap()
    }
}

#[test]
fn the_state_after_each_record_can_be_rebuilt_from_the_snapshot_before_it() {
    let world = world();
    for seq in 1..=30 {
        let restored = world
            .try_at(Goal::Seen(world.head), Some(Until::Record(seq)))
            .unwrap();
        assert_eq!((restored.seq, restored.data_version), (seq, seq));
        let base = restored.snapshot.map_or(0, |snapshot| snapshot.base_seq);
        let nearest = [25, 20].into_iter().find(|base| *base <= seq).unwrap_or(0);
        assert_eq!((base, restored.records), (nearest, seq - nearest));
        let received = (base < seq).then_some(UnixMillis(500 + seq));
        assert_eq!(restored.received_at, received, "of record {seq}");
    }
    let beyond = world.try_at(Goal::Seen(world.head), Some(Until::Record(31)));
    assert!(matches!(beyond, Err(RestoreError::Chain(BadChain::Short { .. }))));
}

#[test]
fn a_drill_ends_at_the_head_that_was_read_though_the_node_goes_on() {
    let mut world = world();
    let seen = world.head;
    world.pay();
    world.snapshot(3);
    world.sealer.restart();
    world.pay();
    let restored = world.try_at(Goal::Seen(seen), None).unwrap();
    assert_eq!(
        (restored.head, restored.seq, restored.data_version),
        (seen, 30, 30)
    );
    assert_eq!(restored.received_at, Some(UnixMillis(530)));
    let fenced = world.try_at(Goal::Fenced(seen), None);
    assert!(matches!(fenced, Err(RestoreError::Moved { .. })));
}

#[test]
fn a_drill_notices_a_head_that_was_taken_back_or_is_another_one() {
    let world = world();
    let other = Head {
        hash: RecordHash([7; 32]),
        ..world.head
    };
    let found = world.try_at(Goal::Seen(other), None);
    assert!(matches!(found, Err(RestoreError::Chain(BadChain::Head { .. }))));
    world.server.held().log.pop();
    let found = world.try_at(Goal::Seen(world.head), None);
    assert!(matches!(
        found,
        Err(RestoreError::Chain(BadChain::Short {
            reached: 29,
            head: 30
        }))
    ));
}

#[test]
fn the_history_begins_where_the_log_leads_on_from_a_snapshot() {
    let world = world();
    let history = world.history();
    assert_eq!(history.oldest, Some(1));
    assert_eq!(history.first_received_at, Some(UnixMillis(501)));
    assert_eq!(history.snapshots.len(), 2);
    world.drop_log_up_to(20);
    assert_eq!(world.history().oldest, Some(20));
    world.drop_log_up_to(1);
    let history = world.history();
    assert_eq!((history.oldest, history.snapshots.len()), (Some(25), 1));
    assert_eq!(history.reaches(24), Err(Beyond::Older(25)));
    assert_eq!(history.reaches(25), Ok(()));
    assert_eq!(history.reaches(30), Ok(()));
    assert_eq!(history.reaches(31), Err(Beyond::Newer(30)));
    world.server.held().snapshots.clear();
    assert_eq!(world.history().reaches(30), Err(Beyond::Nothing));
}

#[test]
fn a_node_that_began_with_a_gap_has_no_state_before_its_snapshot() {
    let mut world = World::busy();
    world.head = Head::EMPTY;
    world.server.held().log.clear();
    let gap = Gap {
        run: RUN,
        opens_run: true,
        data_version: 20,
        snapshot: SnapshotId([1; 16]),
    };
    world.append(&Content::Gap(gap));
    world.snapshot(1);
    world.sealer.restart();
    world.pay();
    world.append(&Content::Policy(Policy {
        run: RUN,
        opens_run: false,
        require: Require::All,
        by: String::new(),
        servers: vec![PolicyServer {
            url: "http://server".to_owned(),
            key: SERVER,
        }],
        spool_seconds: 0,
    }));
    assert_eq!(world.history().oldest, Some(1));
    let first = world
        .try_at(Goal::Seen(world.head), Some(Until::Record(1)))
        .unwrap();
    assert_eq!((first.seq, first.data_version), (1, 20));
    // A record that changes nothing is a point in time all the same.
    let last = world
        .try_at(Goal::Seen(world.head), Some(Until::Record(3)))
        .unwrap();
    assert_eq!((last.seq, last.data_version), (3, 21));
}

#[test]
fn a_time_means_the_last_record_that_had_come_by_then() {
    // Record n came at 500 + n; the fake server commits every snapshot at 1.
    let world = world();
    world.server.held().snapshots.clear();
    for seq in 1..=30 {
        assert_eq!(world.record_at(500 + seq), Ok(seq));
    }
    assert_eq!(world.record_at(10_000), Ok(30));
    assert_eq!(world.record_at(500), Err(Beyond::Older(1)));
    // Several in the same moment all count.
    for at in 9..14 {
        world.server.held().log[at].0 = UnixMillis(510);
    }
    assert_eq!(world.record_at(510), Ok(14));
    assert_eq!(world.record_at(509), Ok(9));
}

#[test]
fn before_the_first_record_of_the_log_the_snapshot_below_it_counts_from_its_commit() {
    let world = world();
    for snapshot in &mut world.server.held().snapshots {
        snapshot.0.committed_at = UnixMillis(500 + snapshot.0.base_seq);
    }
    world.drop_log_up_to(25);
    assert_eq!(world.record_at(524), Err(Beyond::Older(25)));
    assert_eq!(world.record_at(525), Ok(25));
    assert_eq!(world.record_at(526), Ok(26));
}

#[test]
fn what_came_over_the_line_is_counted() {
    let world = world();
    let counted = Counted::new(&world.server);
    let target = world.target();
    let request = Request {
        keys: &world.keys,
        node: NODE,
        server: SERVER,
        policy: None,
        goal: Goal::Seen(world.head),
        until: None,
        database: &target,
    };
    wait(restore(&counted, &request, &StoppedClock, &mut |_| {})).unwrap();
    let held = world.server.held();
    let most: usize = held.packs.values().map(Vec::len).sum();
    let records: usize = held.log.iter().map(|(_, sealed)| sealed.len()).sum();
    assert!(counted.bytes() > 1 << 12 && counted.bytes() < 2 * (most + records) as u64);
}
