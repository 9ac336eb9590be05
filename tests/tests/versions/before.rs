//! What is decided before there is anything to judge: the lock, the copy, the servers that do not answer or refuse.

use super::{goes_on, halts, live, lived};
use anyhow::{Result, ensure};
use backstop::directory::Directory;
use backstop_tests::{
    chaos_proxy::Weather, halted::type_it, scene::Scene, wallet::Journal, watch::configure,
};

/// V1
#[test]
fn a_directory_whose_lock_is_held_halts_until_it_is_free() -> Result<()> {
    let mut scene = Scene::new(200, Journal::Delete)?;
    let lock = Directory::in_network_dir(&scene.node.network_dir()).lock()?;
    let failed = scene
        .start(1)
        .err()
        .map(|failed| failed.to_string())
        .unwrap_or_default();
    ensure!(
        failed.contains("Stop the other one, and start lightningd again"),
        "{failed}"
    );
    drop(lock);
    goes_on(&mut scene)?;
    Ok(())
}

/// V2
#[test]
fn a_copied_directory_halts_and_once_adopted_it_is_the_one() -> Result<()> {
    let mut scene = lived(202)?;
    let place = tempfile::tempdir()?;
    let copy = scene.node.copied(&place.path().join("copy"))?;
    // The original does not mind, and goes on.
    live(&mut scene, 2)?;
    let original = std::mem::replace(&mut scene.node, copy);
    let word = halts(&mut scene, "is a copy of the one that is backed up")?;
    type_it(&word)?.success()?;
    live(&mut scene, 3)?;
    let adopted = std::mem::replace(&mut scene.node, original);
    halts(&mut scene, "took this node over")?;
    scene.node = adopted;
    goes_on(&mut scene)?;
    Ok(())
}

/// V3
#[test]
fn a_server_that_does_not_answer_is_waited_for_and_then_the_start_halts() -> Result<()> {
    let mut scene = lived(204)?;
    configure(&scene, "halt_after_seconds = 600", "halt_after_seconds = 1")?;
    scene.proxy.set(Weather::Refuse);
    for _ in 0..2 {
        let failed = scene
            .start(2)
            .err()
            .map(|failed| failed.to_string())
            .unwrap_or_default();
        ensure!(
            failed.contains("The node waits, nothing is lost")
                && failed.contains("start lightningd again once the server is back"),
            "{failed}"
        );
    }
    scene.proxy.set(Weather::Clear);
    configure(&scene, "halt_after_seconds = 1", "halt_after_seconds = 600")?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V4
#[test]
fn a_directory_that_was_taken_over_halts_and_can_take_the_node_back() -> Result<()> {
    let mut scene = lived(206)?;
    scene.restore("elsewhere")?;
    let word = halts(&mut scene, "took this node over")?;
    ensure!(word.contains(" at 20"), "when: {word}");
    type_it(&word)?.success()?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V5
#[test]
fn a_server_that_was_restored_and_lost_nothing_is_adopted_and_goes_on() -> Result<()> {
    let mut scene = Scene::new(208, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    scene.server.mark_restored()?;
    ensure!(lightningd.pay().is_err(), "a held node committed");
    lightningd.kill()?;
    scene.server.kill()?;
    scene.server.restart()?;
    let word = halts(&mut scene, "restored from a copy")?;
    let said = scene
        .node
        .command(&["adopt", "--server-lost-records"])?
        .failure()?;
    ensure!(said.stderr.contains("lost nothing"), "{said:?}");
    let said = type_it(&word)?.success()?;
    ensure!(said.stdout.contains("last heard from"), "{said:?}");
    goes_on(&mut scene)?;
    Ok(())
}
