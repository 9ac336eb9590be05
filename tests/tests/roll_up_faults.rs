//! Whatever happens during a roll-up: the snapshot before it and the log restore everything, and it is made up for (I8).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::{Moment, Step},
    lightningd::Lightningd,
    scene::Scene,
    wallet::Journal,
    watch::{self, PATIENCE, lines, pay_until, pay_until_said, pay_until_said_again, stop},
};

/// Bytes of SQL that make more chunks than a few payments change.
const MANY: usize = 2_000_000;
/// So many chunks at least.
const MANY_CHUNKS: u64 = 60;

/// Every step of a roll-up, in their order, and whether the server has all chunks by then.
const STEPS: &[(Step, bool)] = &[
    (at("POST /v1/chunks/locate", Moment::Asked), false),
    (at("POST /v1/chunks/locate", Moment::Answered), false),
    (at("PUT /v1/packs/", Moment::Asked), false),
    (at("PUT /v1/packs/", Moment::Half), false),
    (at("PUT /v1/packs/", Moment::Answered), true),
    (at("GET /v1/packs/", Moment::Asked), true),
    (at("GET /v1/packs/", Moment::Answered), true),
    (at("POST /v1/snapshots", Moment::Asked), true),
    (at("POST /v1/snapshots", Moment::Answered), true),
];

const fn at(request: &'static str, moment: Moment) -> Step {
    Step { request, moment }
}

/// A node on a server that asks for a roll-up only when it is told to.
fn scene(seed: u64) -> Result<Scene> {
    let mut scene = Scene::with(seed, Journal::Delete, &[])?;
    // The first start migrates, and the second takes the snapshot for that.
    for life in [1, 2] {
        stop(scene.start(life)?)?;
    }
    Ok(scene)
}

fn order(scene: &Scene) -> Result<()> {
    scene.server.order_roll_up(scene.node.node_id()?)
}

/// Writes much, and pays until the roll-up of that comes to this step.
fn roll_up_to(scene: &Scene, lightningd: &mut Lightningd, step: Step) -> Result<()> {
    lightningd.write_large(MANY)?;
    scene.proxy.stop_at(step);
    order(scene)?;
    // One payment is enough to be asked for it.
    lightningd.pay()?;
    ensure!(
        scene.proxy.wait_for_stop(PATIENCE),
        "no roll-up came to {step:?}\n{}",
        lightningd.plugin().says()
    );
    Ok(())
}

/// How many chunks the newest roll-up sent.
fn sent(lightningd: &mut Lightningd) -> Result<u64> {
    let (_, line) = lines(lightningd, "Rolled up").pop().context("no roll-up")?;
    let (_, rest) = line.split_once("; ").context("no figures")?;
    let (sent, _) = rest.split_once(' ').context("no figure")?;
    Ok(sent.parse()?)
}

/// A roll-up comes about again, and sends only what is missing.
fn make_up(scene: &Scene, lightningd: &mut Lightningd, step: Step, has_all: bool) -> Result<()> {
    order(scene)?;
    pay_until_said_again(lightningd, "Rolled up").with_context(|| format!("{step:?}"))?;
    let sent = sent(lightningd)?;
    ensure!(
        !has_all || sent < MANY_CHUNKS,
        "{step:?}: {sent} chunks were sent again"
    );
    Ok(())
}

#[test]
fn a_plugin_killed_at_any_step_of_a_roll_up_makes_up_for_it_and_sends_only_what_is_missing() -> Result<()> {
    let mut scene = scene(20)?;
    for ((step, has_all), life) in STEPS.iter().copied().zip((10..).step_by(2)) {
        let mut lightningd = scene.start(life)?;
        roll_up_to(&scene, &mut lightningd, step)?;
        lightningd.plugin().kill();
        lightningd.kill()?;
        // What was on its way may arrive now, or never.
        scene.proxy.release();
        let mut lightningd = scene.start_or_restart(life + 1)?;
        make_up(&scene, &mut lightningd, step, has_all)?;
        stop(lightningd)?;
    }
    scene.check()
}
