use super::*;

#[test]
fn nothing_is_put_in_place_where_somebody_wrote_after_the_fence() {
    let mut world = World::busy();
    let fenced = world.head;
    world.pay();
    let target = world.target();
    let request = Request {
        keys: &world.keys,
        node: NODE,
        server: SERVER,
        policy: None,
        goal: Goal::Fenced(fenced),
        until: None,
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
        server: SERVER,
        policy: None,
        goal: Goal::Fenced(fenced),
        until: None,
        database: &target,
    };
    let error = wait(restore(server, &request, &StoppedClock, &mut grow)).unwrap_err();
    assert!(matches!(error, RestoreError::Moved { .. }), "{error}");
    assert_eq!(world.left(), 0);
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
        server: SERVER,
        policy: None,
        goal: Goal::Fenced(world.head),
        until: None,
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
fn a_restore_that_is_cut_again_and_again_comes_through_and_fetches_no_data_twice() {
    let mut world = World::busy();
    world.snapshot(1);
    world.sealer.restart();
    world.pay();
    world.server.held().fetched = 0;
    world.comes_back();
    let whole = std::mem::take(&mut world.server.held().fetched);

    let mut fetched = Vec::new();
    for answers in 0.. {
        world.server.held().answers = Some(answers);
        let restored = world.restore();
        fetched.push(std::mem::take(&mut world.server.held().fetched));
        match restored {
            Ok(_) => break,
            Err(error) => assert!(error.is_cut(), "{error}"),
        }
    }
    let all = fetched.iter().position(|bytes| *bytes == whole).unwrap();
    assert!(fetched[all + 1] < whole, "{fetched:?}");
    let conn = Connection::open(world.target()).unwrap();
    assert_eq!(compare::difference(world.live.database(), &conn).unwrap(), None);
    assert_eq!(world.left(), 1, "the database alone");
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
        let name = "restore::tests::place::a_full_disk_is_said_as_such_and_leaves_nothing";
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
        notes: Path::new(&big),
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
fn a_line_that_is_cut_again_and_again_is_outlived_and_a_refusal_is_not_repeated() {
    let mut world = World::busy();
    world.snapshot(1);
    world.sealer.restart();
    world.pay();
    let target = world.target();
    let request = Request {
        keys: &world.keys,
        node: NODE,
        server: SERVER,
        policy: None,
        goal: Goal::Fenced(world.head),
        until: None,
        database: &target,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let try_with = |pauses: &[std::time::Duration]| {
        let patient = Patient::new(&world.server, pauses);
        runtime.block_on(restore(&patient, &request, &StoppedClock, &mut |_| {}))
    };
    world.server.held().silent_after_each = 2;
    assert!(matches!(try_with(&[]), Err(RestoreError::Remote(_))));
    assert_eq!(world.left(), 0);
    let at_once = [std::time::Duration::ZERO; 2];
    assert_eq!(try_with(&at_once).unwrap().records, 1);
    fs::remove_file(&target).unwrap();

    world.server.held().silent_after_each = 0;
    world.server.held().packs.clear();
    let refused = try_with(&at_once).unwrap_err();
    assert!(
        matches!(&refused, RestoreError::Remote(error) if !error.is_passing()),
        "{refused}"
    );
    assert_eq!(world.left(), 0);
}
