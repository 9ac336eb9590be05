//! Three servers of which two must hold what is acknowledged, with the real programs.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::{ChaosProxy, Moment, Step, Weather},
    lightningd::Lightningd,
    several::Several,
    watch::PATIENCE,
};
use nix::sys::signal::{Signal, kill};

/// A batch reaches one server, nobody hears of it, and the plugin dies.
fn kill_once_it_is_there(lightningd: &mut Lightningd, proxy: &ChaosProxy) -> Result<()> {
    proxy.stop_at(Step {
        request: "POST /v1/records",
        moment: Moment::Answered,
    });
    let plugin = lightningd.plugin().pid();
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| -> Result<()> {
            let came = proxy.wait_for_stop(PATIENCE);
            kill(plugin, Signal::SIGKILL)?;
            ensure!(came, "the batch never came to the server");
            Ok(())
        });
        let paid = lightningd.pay();
        ensure!(paid.is_err(), "a batch that one server has was acknowledged");
        killer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Stops lightningd and wants an orderly end.
fn stop(lightningd: Lightningd) -> Result<String> {
    let (status, says) = lightningd.stop(0)?;
    ensure!(status == 0, "the plugin ended with {status}\n{says}");
    Ok(says)
}

#[test]
fn with_one_of_three_away_the_node_goes_on_and_the_one_that_was_away_is_caught_up() -> Result<()> {
    for away in 0..3 {
        let mut several = Several::new(100 + away as u64, 3, "majority", &[])?;
        let mut lightningd = several.start(1)?;
        lightningd.pay()?;
        several.servers[away].kill()?;
        lightningd.pay()?;
        several.servers[away].restart()?;
        lightningd.pay()?;
        let other = (away + 1) % 3;
        several.servers[other].kill()?;
        // Only with the one that was away are there two.
        lightningd.pay()?;
        stop(lightningd)?;
        let said = several.check(away, "with one silent")?.stdout;
        ensure!(said.contains("SILENT"), "{said}");
        several.servers[other].restart()?;
        let said = several.check(other, "with one behind")?.stdout;
        ensure!(said.contains("BEHIND"), "{said}");
    }
    Ok(())
}

#[test]
fn a_start_with_one_of_three_away_goes_on_and_a_restore_needs_two() -> Result<()> {
    let mut several = Several::new(7, 3, "majority", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.servers[0].kill()?;
    let mut lightningd = several.start(2)?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.servers[1].kill()?;
    let refused = several.try_restore(2, "alone", &[])?.failure()?;
    ensure!(refused.stderr.contains("--fewer-servers"), "{}", refused.stderr);
    // The one that missed the last run, and one that did not: the newer head decides.
    several.servers[0].restart()?;
    let said = several.check(0, "together")?.stdout;
    ensure!(said.contains("BEHIND"), "{said}");
    Ok(())
}

#[test]
fn a_restored_node_takes_along_the_server_that_missed_the_takeover_and_the_old_one_stays_refused()
-> Result<()> {
    let mut several = Several::new(8, 3, "majority", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.servers[0].kill()?;
    several.check(1, "new")?;
    several.servers[0].restart()?;

    // The old machine is refused as long as any server of the takeover answers, and the one that knows nothing lets nobody through.
    for _ in 0..2 {
        let refused = several.start(2).err().context("the old machine was let in")?;
        ensure!(refused.to_string().contains("took this node over"), "{refused}");
    }
    several.servers[1].kill()?;
    let refused = several.start(2).err().context("the old machine was let in")?;
    ensure!(refused.to_string().contains("took this node over"), "{refused}");
    several.servers[1].restart()?;

    let new = several.restored("new");
    several.node = several.node.at(&new)?;
    let mut lightningd = several.start(3)?;
    lightningd.pay()?;
    several.servers[1].kill()?;
    // Now the one that missed the takeover is needed.
    lightningd.pay()?;
    stop(lightningd)?;
    several.check(0, "again")?;
    Ok(())
}

#[test]
fn whichever_server_alone_got_the_last_batch_and_whichever_two_come_back_nothing_acknowledged_is_lost()
-> Result<()> {
    for got in 0..3 {
        for silent in 0..3 {
            let mut several = Several::new(20 + 3 * got as u64 + silent as u64, 3, "majority", &[])?;
            let mut lightningd = several.start(1)?;
            lightningd.pay()?;
            for other in (0..3).filter(|other| *other != got) {
                several.proxies[other].set(Weather::Refuse);
            }
            kill_once_it_is_there(&mut lightningd, &several.proxies[got])?;
            lightningd.kill()?;
            for proxy in &several.proxies {
                proxy.release();
                proxy.set(Weather::Clear);
            }
            several.servers[silent].kill()?;
            let mut lightningd = several.start_or_restart(2)?;
            lightningd.pay()?;
            several.servers[silent].restart()?;
            lightningd.pay()?;
            several.servers[(silent + 1) % 3].kill()?;
            lightningd.pay()?;
            stop(lightningd)?;
            several
                .check(silent, "checked")
                .with_context(|| format!("only {got} got it, {silent} was silent"))?;
        }
    }
    Ok(())
}
