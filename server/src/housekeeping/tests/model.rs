//! Whatever a node and its server do, in whatever order, and wherever the server dies: nothing that is referenced goes, and
//! nothing that is not stays.

use super::*;
use proptest::prelude::*;

/// Names of chunks; a few, so that packs, snapshots and uploads have them in common.
const CHUNKS: std::ops::Range<u8> = 1..20;

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u8>),
    PutAndDie(Vec<u8>, bool),
    Append,
    Commit(Vec<u8>, bool),
    ReplaceHead,
    Advance(u64),
    Tidy,
    TidyAndDie(usize),
}

fn chunks() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::btree_set(CHUNKS, 1..8).prop_map(|set| set.into_iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => chunks().prop_map(Step::Put),
        1 => (chunks(), any::<bool>()).prop_map(|(chunks, stored)| Step::PutAndDie(chunks, stored)),
        1 => Just(Step::Append),
        4 => (chunks(), any::<bool>()).prop_map(|(chunks, difference)| Step::Commit(chunks, difference)),
        1 => Just(Step::ReplaceHead),
        4 => (1_u64..60).prop_map(|hours| Step::Advance(hours * HOUR)),
        4 => Just(Step::Tidy),
        3 => (0_usize..60).prop_map(Step::TidyAndDie),
    ]
}

async fn play(steps: Vec<Step>) {
    let mut world = World::new().await;
    for step in steps {
        match step {
            // Where a pack of this name is going, the same upload succeeds later.
            Step::Put(chunks) => drop(world.put(&chunks).await),
            Step::PutAndDie(chunks, stored) => world.put_and_die(&chunks, stored).await,
            Step::Append => world.append().await,
            Step::Commit(chunks, difference) => world.commit(&chunks, difference).await,
            Step::ReplaceHead => world.replace_head().await,
            Step::Advance(millis) => world.advance(millis),
            Step::Tidy => world.tidy().await.unwrap(),
            Step::TidyAndDie(polls) => world.tidy_and_die(polls).await,
        }
        world.check().await;
    }
    world.append().await;
    world.settle().await;
    world.check().await;
    world.check_settled(&CHUNKS.collect::<Vec<_>>()).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn nothing_referenced_goes_and_nothing_unreferenced_stays(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}
