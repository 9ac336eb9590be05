//! What the server's chain decides: nothing there, less than was acknowledged, another history, an unknown writer, no
//! batch yet.

use super::{goes_on, halts, live, live_as, lived, put_back, start_that_stops_at, unheard};
use anyhow::{Result, ensure};
use backstop_tests::{
    halted::type_it,
    scene::Scene,
    wallet::Journal,
    watch::{account, status},
};

const LOST: &str = "lost data or serves an old copy of it";

/// V6
#[test]
fn a_server_that_lost_everything_halts_the_node_and_gets_it_anew() -> Result<()> {
    let mut scene = lived(220)?;
    scene.server.lose_everything()?;
    let word = halts(&mut scene, "The server holds nothing of this node")?;
    type_it(&word)?.success()?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V7
#[test]
fn a_new_node_begins_its_log_with_nothing() -> Result<()> {
    let mut scene = Scene::new(222, Journal::Delete)?;
    let said = live(&mut scene, 1)?;
    ensure!(said.contains("the backup goes on from record 1"), "{said}");
    ensure!(account(&scene)?["snapshot"].is_null(), "a snapshot of nothing");
    scene.check()
}

/// V8
#[test]
fn a_node_that_existed_before_its_backup_begins_with_a_snapshot() -> Result<()> {
    let mut scene = Scene::new(224, Journal::Delete)?;
    scene.live_without_backup(1)?;
    let said = goes_on(&mut scene)?;
    ensure!(said.contains("backed up for the first time"), "{said}");
    Ok(())
}

/// V9
#[test]
fn another_history_halts_the_node_that_knows_the_first_one() -> Result<()> {
    let mut scene = lived(226)?;
    let kept = tempfile::tempdir()?;
    scene.server.keep(&kept.path().join("first"))?;
    scene.server.lose_everything()?;
    // A second history of the same node, by a directory that bears the same name.
    let place = tempfile::tempdir()?;
    std::fs::create_dir(place.path().join("regtest"))?;
    let second = scene.node.at(place.path())?;
    second.setup(&scene.proxy.url())?;
    let instance = |node: &backstop_tests::node::Node| node.network_dir().join("backstop/instance");
    std::fs::copy(instance(&scene.node), instance(&second))?;
    let memory = scene.options.oracle.take();
    live_as(&mut scene, &second, 1)?;
    scene.options.oracle = memory;

    let word = halts(&mut scene, "another history of this node")?;
    let said = type_it(&word)?;
    ensure!(said.stdout.contains("another history"), "{said:?}");
    scene.server.go_back(&kept.path().join("first"))?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V10
#[test]
fn a_server_that_went_back_to_an_older_copy_halts_the_node_until_its_owner_says_that_the_rest_is_lost()
-> Result<()> {
    let mut scene = lived(228)?;
    let kept = tempfile::tempdir()?;
    let (old, new) = (kept.path().join("old"), kept.path().join("new"));
    scene.server.keep(&old)?;
    live(&mut scene, 2)?;
    scene.server.keep(&new)?;
    scene.server.go_back(&old)?;
    let word = halts(&mut scene, LOST)?;
    // Where the data come back, nothing happened.
    scene.server.go_back(&new)?;
    live(&mut scene, 3)?;
    scene.server.go_back(&old)?;
    halts(&mut scene, LOST)?;
    let said = scene.node.command(&["adopt"])?.failure()?;
    ensure!(said.stderr.contains("--server-lost-records"), "{said:?}");
    type_it(&word)?.success()?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V10
#[test]
fn a_server_that_goes_back_under_a_running_node_gets_nothing_and_halts_it_for_good() -> Result<()> {
    let mut scene = Scene::new(230, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    let kept = tempfile::tempdir()?;
    let old = kept.path().join("old");
    scene.server.keep(&old)?;
    lightningd.pay()?;
    scene.server.go_back(&old)?;
    let before = account(&scene)?["head"].clone();
    ensure!(lightningd.pay().is_err(), "it went on behind a hole");
    assert_eq!(account(&scene)?["head"], before);
    lightningd.kill()?.wait()?;
    let word = halts(&mut scene, LOST)?;
    type_it(&word)?.success()?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V11
#[test]
fn the_same_place_with_another_hash_is_another_history() -> Result<()> {
    let mut scene = lived(232)?;
    let kept = tempfile::tempdir()?;
    let (before, mine) = (kept.path().join("before"), kept.path().join("mine"));
    let clone = scene.node.cloned(&kept.path().join("clone"))?;
    scene.server.keep(&before)?;
    live(&mut scene, 2)?;
    scene.server.keep(&mine)?;
    let place = status(&scene)?["witness"].clone();
    // The clone writes as many records at the same epoch, on what the server held before.
    scene.server.go_back(&before)?;
    let memory = scene.options.oracle.take();
    live_as(&mut scene, &clone, 2)?;
    scene.options.oracle = memory;
    let head = account(&scene)?["head"].clone();
    ensure!(
        head["seq"] == place["seq"] && head["epoch"] == place["epoch"] && head["hash"] != place["hash"],
        "{place} {head}"
    );
    let word = halts(&mut scene, "another history of this node")?;
    type_it(&word)?;
    scene.server.go_back(&mine)?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V12
#[test]
fn a_head_that_this_directory_never_saw_halts_it_at_any_version() -> Result<()> {
    for (seed, equal) in [(234, false), (236, true)] {
        let mut scene = lived(seed)?;
        let kept = tempfile::tempdir()?;
        // Nothing tells a clone of the whole disk from the original but what it wrote.
        let clone = scene.node.cloned(&kept.path().join("clone"))?;
        live_as(&mut scene, &clone, 2)?;
        if equal {
            put_back(&scene.node.database(), &std::fs::read(clone.database())?)?;
        }
        let word = halts(&mut scene, "a machine that this directory does not know")?;
        type_it(&word)?.success()?;
        goes_on(&mut scene)?;
        // And from then on the clone is the stranger.
        scene.node = clone;
        let refused = scene.start(4).err().map(|failed| failed.to_string());
        ensure!(
            refused.is_some_and(|refused| refused.contains("took this node over")),
            "the clone started"
        );
    }
    Ok(())
}

/// V13
#[test]
fn a_new_node_whose_log_was_begun_and_holds_no_batch_goes_on() -> Result<()> {
    let mut scene = Scene::new(238, Journal::Delete)?;
    start_that_stops_at(&mut scene, unheard("POST /v1/records"))?;
    let said = goes_on(&mut scene)?;
    ensure!(said.contains("the backup goes on from record 1"), "{said}");
    ensure!(account(&scene)?["snapshot"].is_null(), "a snapshot of nothing");
    Ok(())
}

/// V14
#[test]
fn an_old_node_whose_log_was_begun_and_holds_no_batch_sends_its_snapshot() -> Result<()> {
    let mut scene = Scene::new(240, Journal::Delete)?;
    scene.live_without_backup(1)?;
    start_that_stops_at(&mut scene, unheard("POST /v1/records"))?;
    let said = goes_on(&mut scene)?;
    ensure!(said.contains("backed up for the first time"), "{said}");
    Ok(())
}
