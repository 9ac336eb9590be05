//! Two real plugins and one node: whatever starts, writes, takes over and starts again, in every order, one history only,
//! and whoever lost never hears `continue` again (I7).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    compare::Copy,
    halted::last_word,
    lightningd::Lightningd,
    node::Node,
    plugin::Program,
    scene::Scene,
    wallet::{Journal, version_of},
    watch::stop,
};

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

#[test]
fn in_every_order_of_write_and_restart_after_a_takeover_the_loser_hears_no_continue() -> Result<()> {
    let mut scene = Scene::new(300, Journal::Delete)?;
    let mut running = Some(scene.start(1)?);
    // The first one's directory goes when it does.
    let _first = keep_first(&mut scene)?;
    for (round, order) in orders(&ACTS).into_iter().enumerate() {
        // The winner of the round before is the old machine of this one; it runs while it is taken over, every second time.
        let old_node = scene.node.at(scene.node.lightning_dir())?;
        let mut old = match running.take() {
            Some(mut old) => {
                old.pay()?;
                if round % 2 == 0 {
                    Some(old)
                } else {
                    drop(old.kill()?);
                    None
                }
            }
            None => None,
        };
        let restored = scene.restore(&format!("round-{round}"))?;
        scene.oracle.check(&restored)?;
        scene.node = scene
            .node
            .at(restored.ancestors().nth(2).context("a directory")?)?;
        for act in &order {
            let context = || format!("round {round}: {act:?} of {order:?}");
            match act {
                Act::OldWrites => match old.take() {
                    Some(mut old) => {
                        ensure!(old.pay().is_err(), "{}: it went on", context());
                        drop(old.kill()?);
                    }
                    None => refused(&old_node, &scene).with_context(context)?,
                },
                Act::OldRestarts => {
                    if let Some(old) = old.take() {
                        drop(old.kill()?);
                    }
                    refused(&old_node, &scene).with_context(context)?;
                }
                Act::NewWrites => {
                    let mut new = match running.take() {
                        Some(new) => new,
                        None => scene.start(round as u64).with_context(context)?,
                    };
                    new.pay().with_context(context)?;
                    running = Some(new);
                }
                Act::NewRestarts => {
                    if let Some(new) = running.take() {
                        drop(new.kill()?);
                    }
                    running = Some(scene.start_or_restart(round as u64).with_context(context)?);
                }
            }
        }
    }
    stop(running.context("nobody runs")?)?;
    scene.check()
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
