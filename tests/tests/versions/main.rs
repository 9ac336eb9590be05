//! The table of SPEC 8.3 with the real programs: each row is a test of its own, marked with its name, that says what
//! comes of such a start, with which last word, and that what is typed then leads on.

mod before;
mod chain;
mod database;

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::{Moment, Step, Weather},
    halted::last_word,
    node::Node,
    scene::Scene,
    wallet::Journal,
    watch::{PATIENCE, configure, stop},
};
use std::path::Path;

/// A node that has lived once, and ended in order.
fn lived(seed: u64) -> Result<Scene> {
    let mut scene = Scene::new(seed, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    Ok(scene)
}

/// One more life, at whose end lightningd is killed: what its plugin said in it.
fn live(scene: &mut Scene, seed: u64) -> Result<String> {
    let mut lightningd = scene.start(seed)?;
    lightningd.pay()?;
    let mut orphan = lightningd.kill()?;
    // Its last deed is the witness.
    orphan.wait()?;
    Ok(orphan.says())
}

/// A life as another directory of the same node; the memory of what was acted on is shared.
fn live_as(scene: &mut Scene, node: &Node, seed: u64) -> Result<String> {
    let here = std::mem::replace(&mut scene.node, node.at(node.lightning_dir())?);
    let lived = live(scene, seed);
    scene.node = here;
    lived
}

/// The last word of a start that is refused, which is the same however often it is tried.
fn halts(scene: &mut Scene, with: &str) -> Result<String> {
    let mut words = Vec::new();
    for seed in [90, 91] {
        let failed = scene.start(seed).err().context("it started")?;
        words.push(last_word(&failed)?);
    }
    let word = words.pop().context("two")?;
    ensure!(
        word.contains(with) && words == [word.clone()],
        "{words:?}, then {word}"
    );
    Ok(word)
}

/// Starts once more; then database and backup are what was acted on.
fn goes_on(scene: &mut Scene) -> Result<String> {
    let said = live(scene, 95)?;
    scene.check()?;
    Ok(said)
}

/// A start whose requests of this kind are never answered: the plugin halts.
fn start_that_stops_at(scene: &mut Scene, step: Step) -> Result<()> {
    let patience = ("halt_after_seconds = 600", "halt_after_seconds = 1");
    configure(scene, patience.0, patience.1)?;
    scene.proxy.stop_at(step);
    scene.options.seed = 80;
    let (proxy, node, options) = (&scene.proxy, &scene.node, &scene.options);
    let failed = std::thread::scope(|scope| {
        let cutter = scope.spawn(|| {
            let came = proxy.wait_for_stop(PATIENCE);
            proxy.set(Weather::Refuse);
            came
        });
        let started = backstop_tests::lightningd::Lightningd::start(node, options);
        let came = cutter.join().unwrap_or(false);
        ensure!(came, "no {step:?}");
        started.err().context("it started")
    })?;
    ensure!(
        last_word(&failed)?.contains("once the server is back"),
        "{failed}"
    );
    scene.proxy.release();
    scene.proxy.set(Weather::Clear);
    configure(scene, patience.1, patience.0)
}

/// A request that came to the server, and whose answer came to nobody.
const fn unheard(request: &'static str) -> Step {
    Step {
        request,
        moment: Moment::Answered,
    }
}

/// Takes a file away, or brings back what it held.
fn put_back(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(std::fs::write(path, bytes)?)
}
