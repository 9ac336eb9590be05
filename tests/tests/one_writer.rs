//! Two real plugins and one node: whatever starts, writes, takes over and starts again, in every order, one history only,
//! and whoever lost never hears `continue` again (I7).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    chaos_proxy::{Moment, Step},
    compare::Copy,
    halted::last_word,
    json_rpc::{db_write_params, request},
    lightningd::Lightningd,
    node::Node,
    plugin::Program,
    scene::Scene,
    seeds::{Budget, many_seeds},
    wallet::{Journal, version_of},
    watch::{PATIENCE, stop},
};
use std::time::Duration;

/// What one of the two machines does after the takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    OldWrites,
    OldRestarts,
    NewWrites,
    NewRestarts,
}

const ACTS: [Act; 4] = [Act::OldWrites, Act::OldRestarts, Act::NewWrites, Act::NewRestarts];

/// All orders of some things.
fn orders(of: &[Act]) -> Vec<Vec<Act>> {
    let Some((first, rest)) = of.split_first() else {
        return vec![Vec::new()];
    };
    let mut all = Vec::new();
    for order in orders(rest) {
        for at in 0..=order.len() {
            let mut order = order.clone();
            order.insert(at, *first);
            all.push(order);
        }
    }
    all
}

fn version_at_rest(node: &Node) -> Result<u64> {
    version_of(&Copy::open(&node.database())?.connection)?.context("no version")
}

/// The node whose directory goes when it is dropped; the scene goes on with the same directory.
fn keep_first(scene: &mut Scene) -> Result<Node> {
    let same = scene.node.at(scene.node.lightning_dir())?;
    Ok(std::mem::replace(&mut scene.node, same))
}

/// The machine that was taken over is refused: with a reason, before it commits anything.
fn refused(node: &Node, scene: &Scene) -> Result<()> {
    let before = version_at_rest(node)?;
    let mut options = scene.options.clone();
    // What it would do is no part of the node's history.
    options.oracle = None;
    let failed = Lightningd::start(node, &options)
        .err()
        .context("the old machine started")?;
    let word = last_word(&failed)?;
    ensure!(word.contains("took this node over"), "{word}");
    ensure!(version_at_rest(node)? == before, "the old machine committed");
    Ok(())
}

/// A takeover of a machine that runs or was just killed, and then these acts in this order.
fn fight(seed: u64, order: &[Act]) -> Result<()> {
    let mut scene = Scene::new(300 + seed, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let mut old = Some(lightningd);
    if seed % 2 == 1 {
        drop(old.take().context("it runs")?.kill()?);
    }
    let old_node = keep_first(&mut scene)?;
    let restored = scene.restore("new")?;
    scene.oracle.check(&restored)?;
    scene.node = scene
        .node
        .at(restored.ancestors().nth(2).context("a directory")?)?;
    let mut new = None;
    for act in order {
        match act {
            Act::OldWrites | Act::OldRestarts => match old.take() {
                Some(mut running) if *act == Act::OldWrites => {
                    ensure!(running.pay().is_err(), "it went on");
                    drop(running.kill()?);
                }
                running => {
                    running.map(Lightningd::kill).transpose()?;
                    refused(&old_node, &scene)?;
                }
            },
            Act::NewWrites => {
                let mut running = match new.take() {
                    Some(running) => running,
                    None => scene.start_or_restart(seed)?,
                };
                running.pay()?;
                new = Some(running);
            }
            Act::NewRestarts => {
                new.take().map(Lightningd::kill).transpose()?;
                new = Some(scene.start_or_restart(seed)?);
            }
        }
    }
    drop(new.context("it runs")?.kill()?);
    scene.check()
}

#[test]
fn in_every_order_of_write_and_restart_after_a_takeover_the_loser_hears_no_continue() -> Result<()> {
    let orders = orders(&ACTS);
    let all = orders.len() as u64;
    let budget = Budget {
        time: Duration::ZERO,
        least: all,
        most: all,
    };
    many_seeds(budget, |seed| {
        let order = &orders[usize::try_from(seed)?];
        fight(seed, order).with_context(|| format!("{order:?}"))
    })
}

#[test]
fn clocks_that_are_hours_apart_decide_nothing() -> Result<()> {
    const HOURS: i64 = 5 * 3_600_000;
    let mut scene = Scene::new(302, Journal::Delete)?;
    let right = scene.options.program.clone();
    let wrong = |by: i64| -> Result<Program> {
        let mut program = Program::new(binary("wrong-clock")?);
        program
            .variables
            .push(("WRONG_CLOCK_MS".to_owned(), by.to_string()));
        Ok(program)
    };
    let old_node = keep_first(&mut scene)?;
    // Each machine by another clock than the one before, and the server by a third.
    for (round, by) in [HOURS, -HOURS, HOURS, 0].into_iter().enumerate() {
        scene.options.program = if by == 0 { right.clone() } else { wrong(by)? };
        let mut lightningd = scene.start(round as u64)?;
        lightningd.pay()?;
        stop(lightningd)?;
        let restored = scene.restore(&format!("clock-{round}"))?;
        scene.oracle.check(&restored)?;
        refused(&scene.node, &scene)?;
        scene.node = scene
            .node
            .at(restored.ancestors().nth(2).context("a directory")?)?;
    }
    for by in [-HOURS, HOURS] {
        scene.options.program = wrong(by)?;
        refused(&old_node, &scene)?;
    }
    Ok(())
}

#[test]
fn who_asks_for_the_name_of_the_one_that_took_over_notices_that_lightningd_is_gone() -> Result<()> {
    let mut scene = Scene::new(304, Journal::Delete)?;
    let mut old = scene.start(1)?;
    old.pay()?;
    scene.restore("new")?;
    // The refusal comes through; the question who it was stays on the way.
    scene.proxy.stop_at(Step {
        request: "POST /v1/sessions",
        moment: Moment::Asked,
    });
    let version = old.version();
    let raise =
        format!("UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {version}");
    let batch = db_write_params(version + 1, &[raise.into_bytes()]);
    old.plugin().send(&request("refused", "db_write", &batch))?;
    ensure!(scene.proxy.wait_for_stop(PATIENCE), "it never asked");
    old.plugin().close_stdin();
    assert_eq!(old.plugin().wait()?, 0);
    let says = old.plugin().says();
    ensure!(!says.contains("took this node over"), "it asked on: {says}");
    Ok(())
}
