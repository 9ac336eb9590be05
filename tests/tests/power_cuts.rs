//! The machine loses power: the database comes back older than what the node acted on, and is brought forward (I5).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::Weather,
    compare::Copy,
    rng::Rng,
    scene::Scene,
    sql,
    wallet::{Journal, version_of},
};

fn version_at_rest(scene: &Scene) -> Result<u64> {
    version_of(&Copy::open(&scene.node.database())?.connection)?.context("no version")
}

/// Cuts the power `back` versions behind the last commit, perhaps with another batch acknowledged and in flight, and
/// starts again: the very first start must heal it.
fn cut_and_heal(seed: u64, journal: Journal, back: u64, cuts: u64) -> Result<()> {
    let mut rng = Rng::new(seed);
    let mut scene = Scene::new(seed, journal)?;
    for cut in 0..cuts {
        let mut lightningd = scene
            .start(seed * 100 + cut)
            .with_context(|| format!("start {cut}"))?;
        for _ in 0..rng.between(1, 2) {
            lightningd.pay()?;
        }
        let in_flight = rng.one_in(2);
        if in_flight {
            lightningd
                .send_uncommitted(&[sql!("UPDATE vars SET intval=? WHERE name='last_pay_index'", cut)])?;
        }
        lightningd.power_cut(back)?;
        let behind = scene.oracle.version() - version_at_rest(&scene)?;
        ensure!(
            behind == back + u64::from(in_flight),
            "cut {cut} is {behind} behind"
        );
    }
    let mut lightningd = scene.start(seed * 100 + cuts)?;
    let healed = lightningd
        .plugin()
        .log()
        .iter()
        .any(|(_, line)| line.contains("applied"));
    ensure!(healed, "nobody was told: {}", lightningd.plugin().says());
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}

#[test]
fn one_commit_lost_to_a_power_cut_comes_back_at_the_next_start() -> Result<()> {
    (0..4).try_for_each(|seed| {
        cut_and_heal(seed, Journal::Delete, 1, 4).with_context(|| format!("seed {seed}"))
    })
}

#[test]
fn so_it_does_with_a_write_ahead_log() -> Result<()> {
    (10..12)
        .try_for_each(|seed| cut_and_heal(seed, Journal::Wal, 1, 4).with_context(|| format!("seed {seed}")))
}

#[test]
fn a_batch_in_flight_that_was_acknowledged_is_applied_too() -> Result<()> {
    (20..23).try_for_each(|seed| {
        cut_and_heal(seed, Journal::Delete, 0, 1).or_else(|error| {
            // Half of these seeds have nothing in flight, and then there is nothing to heal.
            if error.to_string().contains("nobody was told") {
                Ok(())
            } else {
                Err(error)
            }
        })
    })
}

#[test]
fn a_disk_that_lies_heals_the_same_way() -> Result<()> {
    for (seed, journal) in [(30, Journal::Delete), (31, Journal::Wal)] {
        cut_and_heal(seed, journal, 7, 2).with_context(|| format!("{journal:?}"))?;
    }
    Ok(())
}

#[test]
fn a_cut_while_the_server_is_away_is_healed_once_it_is_back() -> Result<()> {
    let mut scene = Scene::new(40, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.power_cut(1)?;
    scene.proxy.set(Weather::Refuse);
    let proxy = &scene.proxy;
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            proxy.wait_for_refusals(3);
            proxy.set(Weather::Clear);
        });
        backstop_tests::lightningd::Lightningd::start(&scene.node, &scene.options)
    });
    if let Err(failed) = refused {
        let says = failed.to_string();
        ensure!(
            says.contains("start lightningd again") || says.contains("Start lightningd again"),
            "{says}"
        );
        scene.start(2)?.stop(0)?;
    } else {
        drop(refused);
        scene.start(2)?.stop(0)?;
    }
    scene.check()
}

#[test]
fn a_cut_right_after_a_clean_stop_is_healed_too() -> Result<()> {
    let mut scene = Scene::new(41, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.stop_and_lose_power()?;
    ensure!(version_at_rest(&scene)? + 1 == scene.oracle.version());
    scene.start(2)?.stop(0)?;
    scene.check()
}

#[test]
fn an_old_copy_put_in_place_by_hand_is_not_gone_on_with() -> Result<()> {
    let mut scene = Scene::new(42, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let old = std::fs::read(scene.node.database())?;
    // Another life of the same node, that the old copy knows nothing of.
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let new = std::fs::read(scene.node.database())?;
    std::fs::write(scene.node.database(), old)?;
    match scene.start(3) {
        // The state at its version was rebuilt and found equal: brought forward is as good as halted.
        Ok(lightningd) => drop(lightningd.stop(0)?),
        Err(failed) => {
            ensure!(failed.to_string().contains("adopt"), "{failed}");
            std::fs::write(scene.node.database(), new)?;
            scene.start(3)?.stop(0)?;
        }
    }
    scene.check()
}

#[test]
fn writes_after_the_plugin_left_are_taken_by_a_snapshot() -> Result<()> {
    for journal in [Journal::Delete, Journal::Wal] {
        let mut scene = Scene::new(43, journal)?;
        for round in 0..3 {
            let mut lightningd = scene.start(round)?;
            lightningd.pay()?;
            let (status, says) = lightningd.stop(round)?;
            ensure!(status == 0, "{says}");
        }
        scene.start(9)?.stop(0)?;
        scene.check()?;
    }
    Ok(())
}

#[test]
fn a_migration_and_its_unreported_vacuum_restore_as_they_are() -> Result<()> {
    let mut scene = Scene::new(44, Journal::Delete)?;
    for upgrade in 1..=3 {
        let mut lightningd = scene.start(upgrade)?;
        for _ in 0..6 {
            lightningd.pay()?;
        }
        lightningd.stop(0)?;
        scene.options.upgrade = Some(upgrade);
        let mut lightningd = scene.start(10 + upgrade)?;
        scene.options.upgrade = None;
        lightningd.pay()?;
        lightningd.stop(0)?;
    }
    // The run after a migration begins with a snapshot: the rewritten file may have other rowids.
    scene.start(20)?.stop(0)?;
    scene.check()
}
