use super::*;
use crate::{
    record::{Content, Gap, Policy, PolicyServer, Require},
    replay::compare,
    restore::{
        BackupServer as _,
        tests::{RUN, TIMELINE, World, wait},
    },
};
use backstop_protocol::id::{ServerKey, SnapshotId};
use proptest::prelude::*;
use std::fs;

fn dir(world: &World) -> PathBuf {
    world.dir.path().join("shadow")
}

fn follow(world: &World, shadow: &mut Shadow) -> Result<(), ShadowError> {
    wait(catch_up(
        shadow,
        &world.server,
        &world.keys.record,
        world.head.seq,
    ))
}

fn made_anew(world: &World) -> Result<Shadow, ShadowError> {
    wait(async {
        let account = world.server.account().await?;
        rebuild(&dir(world), &world.server, &world.keys, &account, TIMELINE).await
    })
}

fn assert_equal(world: &World, shadow: &Shadow) {
    let found = compare::difference(shadow.replay().database(), world.live.database()).unwrap();
    assert_eq!(found, None);
    assert_eq!(shadow.position().seq, world.head.seq);
    assert_eq!(shadow.position().hash, world.head.hash);
}

fn policy() -> Content {
    Content::Policy(Policy {
        run: RUN,
        opens_run: false,
        servers: vec![PolicyServer {
            url: "http://127.0.0.1".to_owned(),
            key: ServerKey([4; 32]),
        }],
        require: Require::All,
        spool_seconds: 0,
        by: String::new(),
    })
}

#[test]
fn a_shadow_that_follows_the_log_from_its_first_record_is_the_live_database() {
    let mut world = World::busy();
    let mut shadow = Shadow::empty(&dir(&world), TIMELINE).unwrap();
    follow(&world, &mut shadow).unwrap();
    assert_equal(&world, &shadow);
    world.pay();
    follow(&world, &mut shadow).unwrap();
    assert_equal(&world, &shadow);
}

#[test]
fn a_shadow_whose_process_was_killed_goes_on_whatever_it_had_written_down() {
    let mut world = World::busy();
    for saved in [true, false] {
        let mut shadow = Shadow::empty(&dir(&world), TIMELINE).unwrap();
        if saved {
            follow(&world, &mut shadow).unwrap();
            shadow.save().unwrap();
            world.pay();
        }
        follow(&world, &mut shadow).unwrap();
        // A kill: nobody settles, and the position is that of the last save.
        drop(shadow);
        let mut shadow = Shadow::open(&dir(&world), TIMELINE).unwrap().unwrap();
        assert!(shadow.position().seq < world.head.seq);
        world.pay();
        follow(&world, &mut shadow).unwrap();
        assert_equal(&world, &shadow);
    }
}

#[test]
fn after_a_power_cut_only_a_settled_shadow_is_taken() {
    let world = World::busy();
    let file = dir(&world).join("position");
    let boots_again = || {
        let text = fs::read_to_string(&file).unwrap();
        let mut position: serde_json::Value = serde_json::from_str(&text).unwrap();
        position["boot"] = "another life of this machine".into();
        fs::write(&file, position.to_string()).unwrap();
    };
    let mut shadow = Shadow::empty(&dir(&world), TIMELINE).unwrap();
    follow(&world, &mut shadow).unwrap();
    shadow.save().unwrap();
    drop(shadow);
    boots_again();
    assert!(Shadow::open(&dir(&world), TIMELINE).unwrap().is_none());

    let mut shadow = made_anew(&world).unwrap();
    follow(&world, &mut shadow).unwrap();
    shadow.settle().unwrap();
    boots_again();
    let shadow = Shadow::open(&dir(&world), TIMELINE).unwrap().unwrap();
    assert_equal(&world, &shadow);
    // Open, it is at the mercy of the next cut again.
    drop(shadow);
    boots_again();
    assert!(Shadow::open(&dir(&world), TIMELINE).unwrap().is_none());
}

#[test]
fn a_shadow_of_another_timeline_or_one_that_cannot_be_read_is_none() {
    let world = World::busy();
    assert!(Shadow::open(&dir(&world), TIMELINE).unwrap().is_none());
    Shadow::empty(&dir(&world), TIMELINE).unwrap().settle().unwrap();
    let other = backstop_protocol::id::TimelineId([9; 16]);
    assert!(Shadow::open(&dir(&world), other).unwrap().is_none());
    for bad in ["", "{}", "\u{0}", "{\"version\":2}"] {
        fs::write(dir(&world).join("position"), bad).unwrap();
        assert!(Shadow::open(&dir(&world), TIMELINE).unwrap().is_none());
    }
    fs::write(dir(&world).join("position"), [0xff, 0xfe]).unwrap();
    assert!(Shadow::open(&dir(&world), TIMELINE).unwrap().is_none());
}

#[test]
fn a_shadow_is_made_anew_of_the_newest_snapshot_and_the_log_above_it() {
    let mut world = World::busy();
    world.snapshot(1);
    world.sealer.restart();
    world.pay();
    world.pay();
    world.drop_log_up_to(world.head.seq - 3);
    let mut shadow = made_anew(&world).unwrap();
    assert_eq!(shadow.position().seq, world.head.seq - 2);
    follow(&world, &mut shadow).unwrap();
    assert_equal(&world, &shadow);
    // A snapshot of it is what the next one is made of.
    let frozen = shadow.freeze().unwrap();
    assert_eq!(frozen.data_version(), world.live.data_version());
    assert_eq!(
        fs::read_dir(dir(&world)).unwrap().count(),
        2,
        "no journal beside it"
    );
    assert_equal(&world, &frozen.thaw().unwrap());
}

#[test]
fn a_gap_and_a_log_that_begins_later_end_a_shadow() {
    let mut world = World::busy();
    let mut shadow = Shadow::empty(&dir(&world), TIMELINE).unwrap();
    follow(&world, &mut shadow).unwrap();
    let gap = Gap {
        run: RUN,
        opens_run: false,
        data_version: 99,
        snapshot: SnapshotId([1; 16]),
    };
    world.append(&Content::Gap(gap));
    assert!(matches!(follow(&world, &mut shadow), Err(ShadowError::Gap)));

    let world = World::busy();
    let mut shadow = Shadow::empty(&dir(&world), TIMELINE).unwrap();
    world.drop_log_up_to(3);
    assert!(matches!(
        follow(&world, &mut shadow),
        Err(ShadowError::Chain(_) | ShadowError::Record(_))
    ));
}

#[test]
fn the_last_policy_is_remembered_because_the_log_may_forget_it() {
    let mut world = World::busy();
    let mut shadow = Shadow::empty(&dir(&world), TIMELINE).unwrap();
    follow(&world, &mut shadow).unwrap();
    assert_eq!(shadow.position().policy(), None);
    world.append(&policy());
    let sealed = world.server.held().log.last().unwrap().1.to_vec();
    world.pay();
    follow(&world, &mut shadow).unwrap();
    shadow.settle().unwrap();
    let shadow = Shadow::open(&dir(&world), TIMELINE).unwrap().unwrap();
    assert_eq!(shadow.position().policy(), Some(sealed.as_slice()));
}

proptest! {
    #[test]
    fn whatever_stands_in_the_files_nothing_breaks(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("chunks"), &bytes).unwrap();
        fs::write(dir.path().join("position"), &bytes).unwrap();
        fs::write(dir.path().join(DATABASE), &bytes).unwrap();
        let _ = crate::snapshot::KnownChunks::open(&known_chunks(dir.path()));
        prop_assert!(Shadow::open(dir.path(), TIMELINE).unwrap().is_none());
    }
}
