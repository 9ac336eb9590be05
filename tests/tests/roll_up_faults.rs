//! Whatever happens during a roll-up: the snapshot before it and the log restore everything, and it is made up for (I8).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::{ChaosProxy, Moment, Step, Weather},
    lightningd::Lightningd,
    scene::{ROLL_UP_OFTEN, Scene},
    sql,
    wallet::Journal,
    watch::{
        self, PATIENCE, account, configure, lines, number, pay_until, pay_until_said, pay_until_said_again,
        stop,
    },
};
use std::time::Duration;

/// Bytes of SQL that take more chunks than a few payments change.
const MANY: usize = 1_000_000;
/// So many bytes at least: half of the SQL is random.
const MANY_SENT: u64 = 500_000;

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

/// How many bytes the newest roll-up sent.
fn sent(lightningd: &mut Lightningd) -> Result<u64> {
    let (_, line) = lines(lightningd, "Rolled up").pop().context("no roll-up")?;
    let (before, _) = line.split_once(" bytes").context("no figure")?;
    Ok(before.rsplit(' ').next().context("no figure")?.parse()?)
}

/// What the backup holds is what the node acted on. Nothing is taken over by that.
fn drill(scene: &Scene) -> Result<()> {
    let to = tempfile::tempdir()?;
    let keep = to.path().join("drill");
    let keep = keep.to_str().context("a path")?;
    scene.node.command(&["verify", "--keep", keep])?.success()?;
    for file in std::fs::read_dir(keep)? {
        scene.oracle.check(&file?.path())?;
    }
    Ok(())
}

/// Has somebody killed at every step; gives back how a node goes on after that.
fn kill_at_every_step(
    seed: u64,
    mut kill: impl FnMut(&mut Scene, Lightningd) -> Result<Option<Lightningd>>,
) -> Result<()> {
    let mut scene = scene(seed)?;
    let mut lightningd = scene.start(10)?;
    for ((step, has_all), life) in STEPS.iter().copied().zip(11..) {
        roll_up_to(&scene, &mut lightningd, step)?;
        let survivor = kill(&mut scene, lightningd).with_context(|| format!("{step:?}"))?;
        // What was on its way may arrive now, or never.
        scene.proxy.release();
        let survived = survivor.is_some();
        lightningd = match survivor {
            Some(lightningd) => lightningd,
            None => scene.start_or_restart(life)?,
        };
        order(&scene)?;
        pay_until_said_again(&mut lightningd, "Rolled up").with_context(|| format!("{step:?}"))?;
        let sent = sent(&mut lightningd)?;
        // Where the plugin lives on, it is the same roll-up that goes on, and counts what it sent before.
        let most = if survived { 2 * MANY_SENT } else { MANY_SENT / 2 };
        ensure!(!has_all || sent < most, "{step:?}: {sent} bytes were sent");
    }
    stop(lightningd)?;
    scene.check()
}

#[test]
fn a_plugin_killed_at_any_step_of_a_roll_up_makes_up_for_it_and_sends_only_what_is_missing() -> Result<()> {
    kill_at_every_step(20, |_, mut lightningd| {
        lightningd.plugin().kill();
        lightningd.kill()?;
        Ok(None)
    })
}

#[test]
fn a_lightningd_killed_at_any_step_of_a_roll_up_makes_up_for_it_and_sends_only_what_is_missing() -> Result<()>
{
    kill_at_every_step(21, |_, lightningd| {
        lightningd.kill()?.wait()?;
        Ok(None)
    })
}

#[test]
fn a_server_killed_at_any_step_of_a_roll_up_is_waited_for_and_gets_only_what_is_missing() -> Result<()> {
    kill_at_every_step(22, |scene, lightningd| {
        scene.server.kill()?;
        scene.server.restart()?;
        Ok(Some(lightningd))
    })
}

#[test]
fn however_often_a_roll_up_is_asked_for_one_at_a_time_is_made() -> Result<()> {
    let mut scene = Scene::with(23, Journal::Delete, ROLL_UP_OFTEN)?;
    let mut lightningd = scene.start(1)?;
    pay_until_said(&mut lightningd, "Rolled up")?;
    for step in [STEPS[0].0, STEPS[7].0] {
        scene.proxy.stop_at(step);
        pay_until(&mut lightningd, "a roll-up", |_| scene.proxy.has_stopped())?;
        let asked = |step: Step| scene.proxy.requests(step.request);
        let before = asked(step);
        // Each of these appends is answered with the same question.
        for _ in 0..3 {
            order(&scene)?;
            lightningd.pay()?;
        }
        assert_eq!(asked(step), before, "a second roll-up beside the first");
        scene.proxy.release();
        pay_until_said_again(&mut lightningd, "Rolled up")?;
    }
    stop(lightningd)?;
    ensure!(
        number(&account(&scene)?, "/snapshot/base_seq")? > 0,
        "no snapshot"
    );
    scene.check()
}

#[test]
fn a_pack_that_is_sent_twice_is_kept_once() -> Result<()> {
    let mut scene = scene(24)?;
    let mut lightningd = scene.start(10)?;
    roll_up_to(&scene, &mut lightningd, at("PUT /v1/packs/", Moment::Answered))?;
    let (kept, asked) = (scene.server.packs()?, scene.proxy.requests("PUT /v1/packs/"));
    // The answer is lost: the client cannot know whether the pack arrived.
    scene.proxy.set(Weather::Refuse);
    scene.proxy.release();
    scene.proxy.set(Weather::Clear);
    pay_until_said(&mut lightningd, "Rolled up")?;
    ensure!(scene.proxy.requests("PUT /v1/packs/") > asked, "it was sent once");
    assert_eq!(scene.server.packs()?, kept);
    stop(lightningd)?;
    scene.check()
}

#[test]
fn a_pack_that_was_damaged_on_the_server_is_noticed_before_anything_relies_on_it() -> Result<()> {
    let mut scene = scene(25)?;
    let mut lightningd = scene.start(10)?;
    let sound = scene.server.packs()?;
    roll_up_to(&scene, &mut lightningd, at("POST /v1/snapshots", Moment::Asked))?;
    let before = account(&scene)?["snapshot"].clone();
    lightningd.plugin().kill();
    lightningd.kill()?;
    // The commit that was on its way is lost too.
    scene.proxy.set(Weather::Refuse);
    scene.proxy.release();
    scene.proxy.set(Weather::Clear);
    for pack in scene.server.packs()?.iter().filter(|pack| !sound.contains(pack)) {
        let mut bytes = std::fs::read(pack)?;
        for at in (1000..bytes.len()).step_by(1000) {
            bytes[at] ^= 1;
        }
        std::fs::remove_file(pack)?;
        std::fs::write(pack, bytes)?;
    }
    let mut lightningd = scene.start_or_restart(11)?;
    order(&scene)?;
    pay_until_said(&mut lightningd, "does not come back as it was")?;
    let said = lines(&mut lightningd, "does not come back as it was");
    ensure!(
        said.iter()
            .all(|(level, _)| level == "error" || level == "broken"),
        "{said:?}"
    );
    ensure!(!watch::says(&mut lightningd, "Rolled up"), "it was relied on");
    stop(lightningd)?;
    assert_eq!(account(&scene)?["snapshot"], before);
    scene.check()
}

#[test]
fn a_database_that_grows_shrinks_and_migrates_between_roll_ups_is_restored_as_it_is() -> Result<()> {
    for (seed, journal) in [(26, Journal::Delete), (27, Journal::Wal)] {
        let mut scene = Scene::with(seed, journal, ROLL_UP_OFTEN)?;
        let mut lightningd = scene.start(1)?;
        for bytes in [3_000_000, 1_000_000] {
            lightningd.write_large(bytes)?;
            pay_until_said_again(&mut lightningd, "Rolled up")?;
        }
        lightningd.commit(&[sql!("DELETE FROM datastore WHERE length(data) > 40000")])?;
        pay_until_said_again(&mut lightningd, "Rolled up")?;
        stop(lightningd)?;
        drill(&scene)?;
        let grown = std::fs::metadata(scene.node.database())?.len();
        // lightningd migrates, and rewrites the file without a word.
        scene.options.upgrade = Some(1);
        let mut lightningd = scene.start(2)?;
        scene.options.upgrade = None;
        pay_until_said(&mut lightningd, "Rolled up")?;
        stop(lightningd)?;
        // What VACUUM renumbered is in the backup from the next start on.
        let mut lightningd = scene.start(3)?;
        ensure!(
            watch::says(&mut lightningd, "upgraded the database"),
            "{}",
            lightningd.plugin().says()
        );
        pay_until_said_again(&mut lightningd, "Rolled up")?;
        stop(lightningd)?;
        let shrunk = std::fs::metadata(scene.node.database())?.len();
        ensure!(shrunk < grown / 2, "{shrunk} of {grown} bytes: it did not shrink");
        scene.check()?;
    }
    Ok(())
}

#[test]
fn a_batch_behind_a_gap_waits_for_a_slow_server_and_then_everything_is_equal() -> Result<()> {
    const SLOW: Duration = Duration::from_secs(2);
    let mut scene = scene(28)?;
    let mut lightningd = scene.start(10)?;
    lightningd.write_large(MANY)?;
    // Written when no plugin listens any more.
    lightningd.stop(3)?;
    let proxy = ChaosProxy::start(scene.server.address())?;
    proxy.stop_at(at("PUT /v1/packs/", Moment::Half));
    configure(&scene, &scene.proxy.url(), &proxy.url())?;
    let lightningd = std::thread::scope(|scope| {
        let started = scope.spawn(|| scene.start(11));
        let stopped = proxy.wait_for_stop(PATIENCE);
        std::thread::sleep(SLOW);
        let early = started.is_finished();
        proxy.release();
        let started = started
            .join()
            .map_err(|_| anyhow::anyhow!("the start panicked"))?;
        ensure!(stopped && !early, "the batch did not wait for its snapshot");
        Ok(started?)
    })?;
    ensure!(
        lightningd.hook_times().iter().any(|time| *time >= SLOW),
        "nobody waited"
    );
    stop(lightningd)?;
    scene.check()
}
