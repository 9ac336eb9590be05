use super::*;

#[test]
fn a_node_comes_back_from_its_first_record_on() {
    let world = World::busy();
    let mut heard = Vec::new();
    let restored = world
        .restore_with(&world.keys, &mut |step| heard.push(step))
        .unwrap();
    assert_eq!(restored.head, world.head);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(world.target()).unwrap().permissions());
    assert_eq!(
        mode & 0o777,
        0o600,
        "a database of channel secrets is its owner's alone"
    );
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
fn an_earlier_version_is_rebuilt_as_it_was_whatever_came_after_it() {
    let mut world = World::busy();
    world.snapshot(1);
    let earlier = world.dir.path().join("earlier");
    fs::copy(world.dir.path().join("live"), &earlier).unwrap();
    world.sealer.restart();
    for _ in 0..5 {
        world.pay();
    }
    world.snapshot(2);
    let target = world.target();
    let request = |until| Request {
        keys: &world.keys,
        node: NODE,
        server: SERVER,
        policy: None,
        goal: Goal::Fenced(world.head),
        until: Some(Until::Version(until)),
        database: &target,
    };
    let rebuild = |until| {
        wait(restore(
            &world.server,
            &request(until),
            &StoppedClock,
            &mut |_| {},
        ))
    };
    for version in [12, 20, 23, 25] {
        assert_eq!(rebuild(version).unwrap().data_version, version);
        let conn = Connection::open(&target).unwrap();
        if version == 20 {
            let earlier = Connection::open(&earlier).unwrap();
            assert_eq!(compare::difference(&earlier, &conn).unwrap(), None);
        }
        drop(conn);
        fs::remove_file(&target).unwrap();
    }
    let beyond = rebuild(26).unwrap_err();
    assert!(
        matches!(
            beyond,
            RestoreError::Version {
                expected: 26,
                found: Some(25)
            }
        ),
        "{beyond}"
    );
    assert_eq!(world.left(), 0);
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
            key: SERVER,
        }],
        require: Require::All,
        spool_seconds: 0,
        by: String::new(),
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
            key: SERVER,
        }],
        require: Require::All,
        spool_seconds: 0,
        by: String::new(),
    }));
    assert!(matches!(world.refuses(), RestoreError::Nothing));
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
            server: SERVER,
            policy: None,
            goal: Goal::Fenced(world.head),
            until: None,
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
