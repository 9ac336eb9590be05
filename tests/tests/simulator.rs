//! The simulated lightningd itself, held against a plugin that says yes to everything.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    compare::{Copy, assert_equal, compare_open},
    fixtures::{Fixtures, MID_IN_FLIGHT},
    heard::{self, Heard},
    lightningd::{Death, Fault, Lightningd, Moment, Options, Victim, replay_trace},
    node::Node,
    plugin::Program,
    replayer::Replayer,
    sql,
    wallet::{Journal, version_of},
};
use rusqlite::Connection;
use std::path::PathBuf;

struct Scene {
    node: Node,
    log: PathBuf,
    options: Options,
}

/// Like [`scene`]; for a write-ahead log the node has lived once before.
fn scene_with(seed: u64, journal: Journal) -> Result<Scene> {
    let mut scene = scene(seed)?;
    if journal == Journal::Wal {
        Lightningd::start(&scene.node, &scene.options)?.stop(0)?;
    }
    scene.options.wallet.journal = journal;
    Ok(scene)
}

fn scene(seed: u64) -> Result<Scene> {
    let node = Node::new(seed)?;
    let log = node.lightning_dir().join("heard");
    let mut program = Program::new(binary("yes-plugin")?);
    program
        .variables
        .push(("YES_PLUGIN_LOG".to_owned(), log.display().to_string()));
    let options = Options::new(program, seed);
    Ok(Scene { node, log, options })
}

/// Every batch that was heard, into an empty database; each start begins with the version's statement.
fn replay(heard: &[Heard]) -> Result<Replayer> {
    let mut replayer = Replayer::new(Connection::open_in_memory()?)?;
    for batch in heard {
        replayer
            .apply(&batch.writes)
            .with_context(|| format!("batch {}", batch.data_version))?;
    }
    Ok(replayer)
}

fn version_at_rest(scene: &Scene) -> Result<u64> {
    let copy = Copy::open(&scene.node.database())?;
    let integrity: String = copy
        .connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(integrity == "ok", "integrity: {integrity}");
    version_of(&copy.connection)?.context("no version")
}

#[test]
fn what_the_plugin_hears_replays_to_the_database() -> Result<()> {
    for journal in [Journal::Delete, Journal::Wal] {
        let scene = scene_with(1, journal)?;
        let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
        for _ in 0..12 {
            lightningd.pay()?;
        }
        lightningd.write_large(2 << 20)?;
        lightningd.stop(0)?;
        let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
        lightningd.pay()?;
        lightningd.stop(0)?;

        let heard = heard::read(&scene.log)?;
        let versions: Vec<u64> = heard.iter().map(|batch| batch.data_version).take(7).collect();
        assert_eq!(
            versions,
            [1, 1, 2, 2, 3, 4, 5],
            "the first start repeats versions"
        );
        assert!(
            heard
                .iter()
                .any(|b| b.writes.iter().any(|w| std::str::from_utf8(&w.0).is_err()))
        );
        let live = Copy::open(&scene.node.database())?;
        let equal = compare_open(&live.connection, replay(&heard)?.connection())?;
        assert!(equal.as_ref().is_ok_and(|equal| equal.rows > 100), "{equal:?}");
    }
    Ok(())
}

#[test]
fn a_payment_takes_13_to_21_batches() -> Result<()> {
    let scene = scene(2)?;
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    for _ in 0..30 {
        let before = lightningd.version();
        let batches = lightningd.pay()? - before;
        assert!((13..=21).contains(&batches), "{batches}");
    }
    Ok(())
}

#[test]
fn an_upgrade_brings_pragmas_at_an_unchanged_version() -> Result<()> {
    let mut scene = scene(3)?;
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    lightningd.pay()?;
    let before = lightningd.version();
    lightningd.stop(0)?;
    scene.options.upgrade = Some(1);
    let lightningd = Lightningd::start(&scene.node, &scene.options)?;
    lightningd.stop(0)?;
    let heard = heard::read(&scene.log)?;
    let repeated = heard
        .windows(2)
        .any(|pair| pair[0].data_version == pair[1].data_version && pair[0].data_version > before);
    assert!(repeated);
    let live = Copy::open(&scene.node.database())?;
    assert!(compare_open(&live.connection, replay(&heard)?.connection())?.is_ok());
    Ok(())
}

#[test]
fn nothing_is_committed_without_continue() -> Result<()> {
    let mut scene = scene(4)?;
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    lightningd.pay()?;
    let version = lightningd.version();
    lightningd.stop(0)?;
    let refuse = ("YES_PLUGIN_REFUSE".to_owned(), (version + 7).to_string());
    scene.options.program.variables.push(refuse);
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    let death = lightningd.pay().unwrap_err();
    assert!(matches!(death, Death::Refused(_)), "{death}");
    lightningd.kill()?;
    let expected = version + 6;
    assert!(version_at_rest(&scene)? <= expected);
    assert_eq!(
        version_at_rest(&scene)?,
        heard::read(&scene.log)?.last().unwrap().data_version
    );
    Ok(())
}

#[test]
fn whoever_dies_and_whenever_only_what_was_committed_is_there() -> Result<()> {
    let moments = [
        Moment::Executed,
        Moment::Half(40),
        Moment::Sent,
        Moment::Continued,
        Moment::Committed,
    ];
    for victim in [Victim::Plugin, Victim::Lightningd, Victim::Machine] {
        for moment in moments {
            let scene = scene(5)?;
            let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
            lightningd.pay()?;
            let before = lightningd.version();
            lightningd.arm(Fault {
                batch: 2,
                moment,
                victim,
            });
            let death = lightningd.pay().unwrap_err();
            lightningd.kill()?;
            let version = version_at_rest(&scene)?;
            let committed = match (victim, moment) {
                // lightningd goes on until it needs the plugin again; its answer was there already.
                (Victim::Plugin, Moment::Continued) | (_, Moment::Committed) => before + 3,
                // The yes may have been in the pipe before the plugin was killed.
                (Victim::Plugin, Moment::Sent) => version.clamp(before + 2, before + 3),
                _ => before + 2,
            };
            assert_eq!(version, committed, "{victim:?} at {moment:?}: {death}");
            let lightningd = Lightningd::start(&scene.node, &scene.options)?;
            lightningd.stop(0)?;
        }
    }
    Ok(())
}

#[test]
fn a_crash_in_a_spilled_transaction_rolls_back() -> Result<()> {
    let scene = scene(6)?;
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    lightningd.pay()?;
    let before = lightningd.version();
    // Far beyond SQLite's page cache: the main file is half modified when lightningd dies.
    lightningd.arm(Fault {
        batch: 0,
        moment: Moment::Continued,
        victim: Victim::Lightningd,
    });
    lightningd.write_large(24 << 20).unwrap_err();
    lightningd.kill()?;
    let header = std::fs::read(scene.node.network_dir().join("lightningd.sqlite3-journal"))?;
    assert_ne!(header[..8], [0; 8], "the journal is hot");
    assert_eq!(version_at_rest(&scene)?, before);
    Ok(())
}

#[test]
fn a_power_cut_brings_the_database_back_by_the_last_commit() -> Result<()> {
    for journal in [Journal::Delete, Journal::Wal] {
        let scene = scene_with(7, journal)?;
        let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
        lightningd.pay()?;
        let version = lightningd.version();
        lightningd.power_cut(1)?;
        assert_eq!(version_at_rest(&scene)?, version - 1, "{journal:?}");
        let heard = heard::read(&scene.log)?;
        let live = Copy::open(&scene.node.database())?;
        let before = replay(&heard[..heard.len() - 1])?;
        assert!(compare_open(&live.connection, before.connection())?.is_ok());
    }
    Ok(())
}

#[test]
fn with_another_batch_in_flight_it_is_two_behind_what_the_plugin_heard() -> Result<()> {
    let scene = scene(8)?;
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    lightningd.pay()?;
    lightningd.send_uncommitted(&[sql!(
        "UPDATE vars SET intval=? WHERE name='last_pay_index'",
        5_i64
    )])?;
    lightningd.power_cut(1)?;
    let head = heard::read(&scene.log)?.last().unwrap().data_version;
    assert_eq!(version_at_rest(&scene)?, head - 2);
    Ok(())
}

#[test]
fn a_disk_that_lies_loses_as_many_versions_as_asked() -> Result<()> {
    for journal in [Journal::Delete, Journal::Wal] {
        let mut scene = scene_with(9, journal)?;
        scene.options.wallet.keep_states = 8;
        let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
        lightningd.pay()?;
        let version = lightningd.version();
        lightningd.power_cut(5)?;
        assert_eq!(version_at_rest(&scene)?, version - 5, "{journal:?}");
    }
    Ok(())
}

#[test]
fn writes_after_the_plugins_left_are_not_heard() -> Result<()> {
    let scene = scene(10)?;
    let lightningd = Lightningd::start(&scene.node, &scene.options)?;
    let (status, _) = lightningd.stop(2).map_err(|death| anyhow::anyhow!("{death}"))?;
    assert_eq!(status, 0);
    let head = heard::read(&scene.log)?.last().unwrap().data_version;
    assert_eq!(version_at_rest(&scene)?, head + 2);
    Ok(())
}

#[test]
fn the_pidfile_is_locked_by_the_plugins_parent_while_lightningd_lives() -> Result<()> {
    let scene = scene(11)?;
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    let written = std::fs::read_to_string(scene.node.pidfile())?;
    assert_eq!(written.trim(), lightningd.plugin().parent().to_string());
    let second = Lightningd::start(&scene.node, &scene.options);
    assert!(second.err().context("two at once")?.to_string().contains("held"));
    lightningd.kill()?;
    Lightningd::start(&scene.node, &scene.options)?.stop(0)?;
    Ok(())
}

#[test]
fn the_recorded_trace_ends_in_the_recorded_database() -> Result<()> {
    let Some(fixtures) = Fixtures::find()? else {
        return Ok(());
    };
    let mut scene = scene(12)?;
    scene.options.wallet.fsync = false;
    let id = scene.node.node_id()?.0;
    replay_trace(&scene.node, &scene.options, fixtures.batches(&id)?, |_| ())?;
    let expected = scene.node.lightning_dir().join("expected");
    fixtures.write_final(&expected, &id)?;
    let equal = assert_equal(&scene.node.database(), &expected)?;
    assert!(equal.rows > 1000);
    let heard = heard::read(&scene.log)?;
    assert_eq!(heard.len(), 9914);
    let replayed = replay(&heard)?;
    let live = Copy::open(&expected)?;
    assert!(compare_open(&live.connection, replayed.connection())?.is_ok());
    Ok(())
}

#[test]
fn the_recorded_trace_goes_on_from_the_middle() -> Result<()> {
    let Some(fixtures) = Fixtures::find()? else {
        return Ok(());
    };
    let mut scene = scene(13)?;
    scene.options.wallet.fsync = false;
    let id = scene.node.node_id()?.0;
    fixtures.write_mid(&scene.node.database(), &id)?;
    assert_eq!(version_at_rest(&scene)?, MID_IN_FLIGHT - 1);
    let rest = fixtures
        .batches(&id)?
        .skip_while(|b| b.as_ref().is_ok_and(|b| b.data_version < MID_IN_FLIGHT));
    replay_trace(&scene.node, &scene.options, rest, |_| ())?;
    let expected = scene.node.lightning_dir().join("expected");
    fixtures.write_final(&expected, &id)?;
    assert_equal(&scene.node.database(), &expected)?;
    Ok(())
}
