//! What the database's version decides, once the server's chain is the one that is known here.

use super::{goes_on, halts, live, lived, put_back, start_that_stops_at};
use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::{Moment, Step, Weather},
    disk,
    halted::{last_word, named, type_it},
    lightningd::{Fault, Lightningd, Moment as When, Victim},
    node::backstop,
    scene::Scene,
    wallet::Journal,
    watch::{PATIENCE, stop},
};

/// V15
#[test]
fn a_database_that_is_gone_is_not_begun_anew_and_comes_back_by_the_command_that_is_named() -> Result<()> {
    let mut scene = lived(260)?;
    for suffix in ["", "-journal", "-wal"] {
        disk::remove(&disk::beside(&scene.node.database(), suffix))?;
    }
    let memory = scene.options.oracle.take();
    let word = halts(&mut scene, "There is no database here, and the backup has one")?;
    scene.options.oracle = memory;
    // Brought forward it cannot be.
    let said = scene.node.command(&["adopt"])?.failure()?;
    ensure!(said.stderr.contains("backstop restore"), "{said:?}");
    for suffix in ["", "-journal", "-wal"] {
        disk::remove(&disk::beside(&scene.node.database(), suffix))?;
    }
    let url = scene.proxy.url();
    let words = named(&word)?;
    let words: Vec<&str> = words
        .iter()
        .map(|word| if word == "URL" { &url } else { word.as_str() })
        .collect();
    backstop(&words)?.success()?;
    goes_on(&mut scene)?;
    Ok(())
}

/// V15
#[test]
fn a_new_node_that_is_cut_off_in_its_first_batches_goes_on() -> Result<()> {
    // Two of them are PRAGMAs.
    for batch in 0..4 {
        for moment in [When::Sent, When::Continued] {
            let mut scene = Scene::new(262, Journal::Delete)?;
            scene.options.fault = Some(Fault {
                batch,
                moment,
                victim: Victim::Machine,
            });
            ensure!(scene.start(1).is_err(), "nobody died");
            scene.options.fault = None;
            let first = scene.start_or_restart(2);
            let mut lightningd = first.with_context(|| format!("batch {batch}, {moment:?}"))?;
            lightningd.pay()?;
            stop(lightningd)?;
            scene.check()?;
        }
    }
    Ok(())
}

/// V16
#[test]
fn a_database_behind_that_could_not_be_brought_forward_halts_and_the_next_start_does_it() -> Result<()> {
    let mut scene = Scene::new(264, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.power_cut(1)?;
    // The server is away at `getmanifest`, and back for the first batch.
    scene.proxy.stop_at(Step {
        request: "POST /v1/sessions",
        moment: Moment::Asked,
    });
    let (proxy, node, options) = (&scene.proxy, &scene.node, &scene.options);
    let failed = std::thread::scope(|scope| {
        scope.spawn(|| {
            proxy.wait_for_stop(PATIENCE);
            proxy.set(Weather::Refuse);
            proxy.release();
            proxy.set(Weather::Clear);
        });
        Lightningd::start(node, options).err()
    });
    let failed = failed.context("it started behind its backup")?;
    let word = last_word(&failed)?;
    ensure!(
        word.contains("lacks the last 1 update(s)") && word.contains("Start lightningd again"),
        "{word}"
    );
    let said = goes_on(&mut scene)?;
    ensure!(said.contains("They were applied from the backup"), "{said}");
    Ok(())
}

/// V16
#[test]
fn a_database_behind_by_one_or_many_is_brought_forward_at_the_next_start() -> Result<()> {
    for (seed, back) in [(266, 1), (268, 2), (270, 9)] {
        let mut scene = Scene::new(seed, Journal::Delete)?;
        let mut lightningd = scene.start(1)?;
        lightningd.pay()?;
        lightningd.power_cut(back)?;
        let said = goes_on(&mut scene).with_context(|| format!("{back} behind"))?;
        ensure!(
            said.contains(&format!("lost its last {back} update(s)")),
            "{said}"
        );
    }
    Ok(())
}

/// V17
#[test]
fn a_database_older_than_a_backup_that_others_wrote_halts_until_it_is_adopted() -> Result<()> {
    let mut scene = lived(272)?;
    let old = std::fs::read(scene.node.database())?;
    live(&mut scene, 2)?;
    let restored = scene.restore("new")?;
    let new = restored.ancestors().nth(2).context("a directory")?;
    scene.node = scene.node.at(new)?;
    put_back(&scene.node.database(), &old)?;
    let word = halts(&mut scene, "older than the backup")?;
    let said = type_it(&word)?.success()?;
    ensure!(said.stdout.contains("Brought forward"), "{said:?}");
    goes_on(&mut scene)?;
    Ok(())
}

/// V18
#[test]
fn a_gap_whose_snapshot_was_never_completed_is_bridged_anew() -> Result<()> {
    for (seed, request) in [(274, "PUT /v1/packs/"), (276, "POST /v1/snapshots")] {
        let mut scene = Scene::new(seed, Journal::Delete)?;
        let mut lightningd = scene.start(1)?;
        lightningd.pay()?;
        lightningd.stop(2)?;
        let moment = Moment::Asked;
        start_that_stops_at(&mut scene, Step { request, moment })?;
        let said = goes_on(&mut scene)?;
        ensure!(said.contains("An earlier snapshot was not completed"), "{said}");
    }
    Ok(())
}

/// V19
#[test]
fn the_run_after_a_migration_begins_with_a_snapshot_and_no_gap() -> Result<()> {
    let mut scene = lived(278)?;
    scene.options.upgrade = Some(1);
    live(&mut scene, 2)?;
    scene.options.upgrade = None;
    let said = live(&mut scene, 3)?;
    ensure!(said.contains("The last run upgraded the database"), "{said}");
    let said = goes_on(&mut scene)?;
    ensure!(!said.contains("taking a snapshot"), "{said}");
    Ok(())
}

/// V22
#[test]
fn a_database_that_is_where_the_backup_ends_goes_on_however_the_last_run_ended() -> Result<()> {
    let mut scene = lived(280)?;
    // The second life takes a snapshot, because the first one migrated.
    live(&mut scene, 2)?;
    for life in 0..4 {
        let mut lightningd = scene.start(life)?;
        let said = lightningd.plugin().says();
        ensure!(
            said.contains("the backup goes on from record"),
            "life {life}: {said}"
        );
        lightningd.pay()?;
        match life {
            // Where the witness lags behind, and where it does not.
            0 => drop(lightningd.kill()?.wait()?),
            1 => lightningd.power_cut(0)?,
            _ => drop(stop(lightningd)?),
        }
    }
    // Another instance's records, which this one saw: a restore puts them there.
    let restored = scene.restore("new")?;
    let new = restored.ancestors().nth(2).context("a directory")?;
    scene.node = scene.node.at(new)?;
    let said = live(&mut scene, 9)?;
    ensure!(said.contains("the backup goes on from record"), "{said}");
    scene.check()
}

/// V23
#[test]
fn writes_that_nobody_heard_are_bridged_by_a_snapshot_be_it_one_or_many() -> Result<()> {
    for (seed, tail) in [(282, 1), (284, 40)] {
        let mut scene = lived(seed)?;
        let mut lightningd = scene.start(2)?;
        lightningd.pay()?;
        lightningd.stop(tail)?;
        let said = goes_on(&mut scene)?;
        let expected = format!("{tail} update(s) were written while no backup was listening");
        ensure!(said.contains(&expected), "{said}");
    }
    Ok(())
}

/// V24
#[test]
fn a_database_newer_than_a_backup_whose_end_was_not_seen_halts_until_a_person_says_that_it_is_the_one()
-> Result<()> {
    for (seed, seen) in [(286, true), (288, false)] {
        let mut scene = lived(seed)?;
        let witness = scene.node.network_dir().join("backstop/witness");
        let older = std::fs::read(&witness)?;
        let mut lightningd = scene.start(2)?;
        lightningd.pay()?;
        lightningd.stop(3)?;
        // The plugin was killed before it wrote down what it saw, and lightningd went on without it.
        if seen {
            put_back(&witness, &older)?;
        } else {
            disk::remove(&witness)?;
        }
        let word = halts(&mut scene, "3 update(s) newer than the backup")?;
        let said = scene.node.command(&["adopt"])?.failure()?;
        ensure!(said.stderr.contains("--server-lost-records"), "{said:?}");
        type_it(&word)?.success()?;
        let said = goes_on(&mut scene)?;
        ensure!(said.contains("3 update(s) were written"), "{said}");
    }
    Ok(())
}
