//! Housekeeping against a model, and against disks that fail.

mod model;
mod world;

use super::*;
use crate::{
    packs::DirectoryPacks,
    store::{ChunkEntry, PackArrival, PackIndex, SqliteStore, Terms},
};
use backstop_protocol::{
    id::ChunkId,
    pack::{PackBuilder, parse_pack},
};
use bytes::Bytes;
use getrandom::{SysRng, rand_core::UnwrapErr};
use world::{Fault, World};

const HOUR: u64 = 60 * 60 * 1000;
const DAY: u64 = 24 * HOUR;

/// Packs of one chunk each, all of which one snapshot needs: enough of them to be gathered.
async fn many_small_packs() -> World {
    let mut world = World::new().await;
    let chunks: Vec<u8> = (1..=9).collect();
    for chunk in &chunks {
        world.put(&[*chunk]).await.unwrap();
    }
    world.append().await;
    world.commit(&chunks, false).await;
    world.advance(DAY + 1);
    world
}

#[tokio::test]
async fn small_packs_become_one_and_go_a_day_later() {
    let mut world = many_small_packs().await;
    let before = world.files();
    assert_eq!(before.len(), 9);
    world.tidy().await.unwrap();
    world.check().await;
    // Whoever located a chunk before may still fetch it.
    assert_eq!(world.files().len(), 10);
    world.advance(DAY + 1);
    world.tidy().await.unwrap();
    world.check().await;
    let after = world.files();
    assert_eq!(after.len(), 1);
    assert!(after.is_disjoint(&before));
}

#[tokio::test]
async fn a_disk_without_room_for_a_rewrite_leaves_everything_as_it_was() {
    let mut world = many_small_packs().await;
    let before = world.files();
    world.fault(Fault::Full);
    let failed = world.tidy().await;
    assert!(
        matches!(failed, Err(HousekeepingError::Packs(PackError::Full))),
        "{failed:?}"
    );
    assert_eq!(world.files(), before);
    world.check().await;
    world.fault(Fault::None);
    world.settle().await;
    assert_eq!(world.files().len(), 1);
}

#[tokio::test]
async fn a_damaged_pack_is_not_copied_and_does_not_keep_the_rest_from_going() {
    let mut world = many_small_packs().await;
    world.put(&[50]).await.unwrap();
    let (damaged, _) = world.pack_of(3).await;
    world.damage(damaged);
    world.advance(DAY + 1);
    let failed = world.tidy().await;
    assert!(
        matches!(&failed, Err(HousekeepingError::Damaged(pack, _)) if *pack == damaged),
        "{failed:?}"
    );
    // What the snapshot needs lies where it lay: a disk may be healed.
    assert_eq!(world.pack_of(3).await.0, damaged);
    world.advance(DAY + 1);
    drop(world.tidy().await);
    assert!(world.locate(&[50]).await[0].is_none());
    assert_eq!(world.files().len(), 9);
}

#[tokio::test]
async fn a_process_that_died_at_any_point_of_a_rewrite_lost_nothing_and_the_next_one_ends_it() {
    for steps in 0..40 {
        let mut world = many_small_packs().await;
        world.tidy_and_die(steps).await;
        world.check().await;
        world.advance(DAY + 1);
        world.tidy_and_die(steps).await;
        world.check().await;
        world.settle().await;
        world.check().await;
        assert_eq!(world.files().len(), 1, "died after {steps} steps");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_said_once_until_it_is_something_else() {
    let mut world = many_small_packs().await;
    world.fault(Fault::Full);
    let account = world.account();
    let (_stopping, stopped) = watch::channel(false);
    let keeper = world.housekeeper();
    keeper.look_after(account, &stopped).await;
    let said = keeper.complaints.get(&account).cloned();
    assert!(
        said.as_ref().is_some_and(|text| text.contains("no room")),
        "{said:?}"
    );
    keeper.look_after(account, &stopped).await;
    assert_eq!(keeper.complaints.get(&account), said.as_ref());
    world.fault(Fault::None);
    let keeper = world.housekeeper();
    keeper.look_after(account, &stopped).await;
    assert!(keeper.complaints.is_empty());
}
