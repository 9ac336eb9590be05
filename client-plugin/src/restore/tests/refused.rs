use super::*;

type Log = Vec<(UnixMillis, Bytes)>;

#[test]
fn a_record_that_was_changed_left_out_doubled_or_moved_is_refused() {
    let world = World::busy();
    let whole = world.server.held().log.clone();
    let with = |change: &dyn Fn(&mut Log)| {
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
    let twice = |log: &mut Log| {
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
    let cut = |log: &mut Log| {
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
    let other = Arc::new(Keys::derive(&Root::from_bytes([9; 32])));
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
