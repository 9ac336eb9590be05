//! Whatever dies, and wherever: what was acknowledged is in the database and in the backup, each batch once.
//!
//! `BACKSTOP_SEED` runs one seed alone; a failure names its seed.

use anyhow::{Context, Result};
use backstop_tests::{
    chaos_proxy::{Direction, Weather},
    lightningd::{Death, Fault, Lightningd, Moment, Victim},
    rng::Rng,
    scene::Scene,
    seeds::{Budget, many_seeds},
    wallet::Journal,
    watch::pay_until,
};
use std::time::Duration;

const BUDGET: Budget = Budget {
    time: Duration::from_mins(1),
    least: 6,
    most: 400,
};

fn journal(rng: &mut Rng) -> Journal {
    if rng.one_in(3) {
        Journal::Wal
    } else {
        Journal::Delete
    }
}

fn moment(rng: &mut Rng) -> Moment {
    match rng.below(5) {
        0 => Moment::Executed,
        1 => Moment::Half(usize::try_from(rng.below(3000)).unwrap_or(0)),
        2 => Moment::Sent,
        3 => Moment::Continued,
        _ => Moment::Committed,
    }
}

/// Pays until death; what killed it.
fn pay_until_death(lightningd: &mut Lightningd, payments: u64) -> Option<Death> {
    (0..payments).find_map(|_| lightningd.pay().err())
}

fn finish(mut scene: Scene, seed: u64) -> Result<()> {
    let mut lightningd = scene.start_or_restart(seed)?;
    lightningd.pay()?;
    let (status, says) = lightningd.stop(0)?;
    anyhow::ensure!(status == 0, "the plugin ended with {status}\n{says}");
    scene.check()
}

#[test]
fn a_process_killed_at_any_moment_loses_nothing_that_was_acknowledged() -> Result<()> {
    many_seeds(BUDGET, |seed| {
        let mut rng = Rng::new(seed);
        let mut scene = Scene::new(seed, journal(&mut rng))?;
        let mut orphans = Vec::new();
        for life in 0..3 {
            let fault = Fault {
                batch: rng.below(24),
                moment: moment(&mut rng),
                victim: *rng
                    .pick(&[Victim::Plugin, Victim::Lightningd, Victim::Machine])
                    .unwrap(),
            };
            // The first batches of a start are as good a moment as any other.
            let at_start = rng.one_in(4);
            scene.options.fault = at_start.then_some(Fault {
                batch: fault.batch % 4,
                ..fault
            });
            let started = scene.start_or_restart(seed * 10 + life);
            scene.options.fault = None;
            let mut lightningd = match started {
                Ok(lightningd) => lightningd,
                Err(_) if at_start => continue,
                Err(error) => return Err(error.context(format!("life {life}"))),
            };
            lightningd.arm(fault);
            pay_until_death(&mut lightningd, 3)
                .with_context(|| format!("life {life}: {fault:?} killed nobody"))?;
            // An orphan may still be sending while the next lightningd starts.
            orphans.push(lightningd.kill()?);
        }
        finish(scene, seed)
    })
}

#[test]
fn a_server_killed_or_cut_off_at_any_byte_is_waited_for_and_nothing_is_doubled() -> Result<()> {
    many_seeds(BUDGET, |seed| {
        let mut rng = Rng::new(seed ^ 0x5e4e);
        let mut scene = Scene::new(seed, journal(&mut rng))?;
        let mut lightningd = scene.start(seed)?;
        for _ in 0..4 {
            let way = if rng.one_in(2) {
                Direction::ToServer
            } else {
                Direction::ToClient
            };
            // Less than one payment sends: it is a batch, or the answer to one, that is cut.
            let bytes = rng.below(if way == Direction::ToServer { 6000 } else { 3000 });
            let before = scene.proxy.cuts();
            scene.proxy.set(Weather::Cut(way, bytes));
            if rng.one_in(2) {
                scene.server.kill()?;
                scene.server.restart()?;
            }
            pay_until(&mut lightningd, "a cut", |_| scene.proxy.cuts() > before)?;
        }
        scene.proxy.set(Weather::Clear);
        let (status, says) = lightningd.stop(0)?;
        anyhow::ensure!(status == 0, "the plugin ended with {status}\n{says}");
        finish(scene, seed)
    })
}

#[test]
fn an_orphan_that_still_waits_for_the_server_does_no_harm() -> Result<()> {
    let mut scene = Scene::new(77, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    scene.proxy.set(Weather::Hold);
    lightningd.arm(Fault {
        batch: 3,
        moment: Moment::Sent,
        victim: Victim::Lightningd,
    });
    scene.proxy.set(Weather::Clear);
    pay_until_death(&mut lightningd, 1).context("nobody died")?;
    let mut orphan = lightningd.kill()?;
    let mut lightningd = scene.start_or_restart(2)?;
    lightningd.pay()?;
    orphan.wait()?;
    lightningd.stop(0)?;
    scene.check()
}
