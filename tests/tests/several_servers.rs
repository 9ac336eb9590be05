//! Three servers of which two must hold what is acknowledged, with the real programs.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    chaos_proxy::{ChaosProxy, Moment, Step, Weather},
    lightningd::Lightningd,
    plugin::Program,
    rng::Rng,
    scene::ROLL_UP_OFTEN,
    several::Several,
    watch::{PATIENCE, lines, pay_until},
};
use nix::sys::signal::{Signal, kill};
use std::time::{Duration, Instant};

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

#[test]
fn with_two_of_three_away_the_node_waits_and_goes_on_once_one_is_back() -> Result<()> {
    let mut several = Several::new(9, 3, "majority", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    several.proxies[0].set(Weather::Refuse);
    several.proxies[1].set(Weather::Refuse);
    std::thread::scope(|scope| -> Result<()> {
        let paid = scope.spawn(|| lightningd.pay());
        for proxy in &several.proxies[..2] {
            proxy.wait_for_refusals(5);
        }
        ensure!(!paid.is_finished(), "it did not wait");
        several.proxies[1].set(Weather::Clear);
        paid.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    })?;
    stop(lightningd)?;
    several.check(2, "checked")?;
    Ok(())
}

#[test]
fn whichever_two_of_three_fail_in_whichever_order_the_node_waits_and_goes_on_with_whichever_comes_back_first()
-> Result<()> {
    let mut round = 0;
    for first in 0..3 {
        for second in (0..3).filter(|second| *second != first) {
            round += 1;
            let mut several = Several::new(40 + round, 3, "majority", &[])?;
            let mut lightningd = several.start(1)?;
            several.servers[first].kill()?;
            lightningd.pay()?;
            several.servers[second].kill()?;
            let (back, later) = if round % 2 == 0 {
                (first, second)
            } else {
                (second, first)
            };
            let third = 3 - first - second;
            let before = several.oracle.version();
            std::thread::scope(|scope| -> Result<()> {
                let paid = scope.spawn(|| lightningd.pay());
                // The one that is left has the batch, and it is not acknowledged for that.
                let records = || several.proxies[third].requests("POST /v1/records");
                let sent = records();
                let begun = Instant::now();
                while records() == sent {
                    ensure!(begun.elapsed() < PATIENCE, "no batch came to the third");
                    std::thread::sleep(Duration::from_millis(10));
                }
                ensure!(!paid.is_finished(), "it did not wait");
                assert_eq!(several.oracle.version(), before, "one of three was enough");
                several.servers[back].restart()?;
                paid.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok(())
            })?;
            several.servers[later].restart()?;
            lightningd.pay()?;
            drop(lightningd.kill()?);
            several
                .check(later, "checked")
                .with_context(|| format!("{first}, then {second}; {back} came back first"))?;
        }
    }
    Ok(())
}

#[test]
fn one_of_three_that_goes_back_to_an_older_copy_gets_from_the_others_what_it_lost() -> Result<()> {
    for said in [false, true] {
        let mut several = Several::new(60 + u64::from(said), 3, "majority", &[])?;
        let kept = tempfile::tempdir()?;
        let old = kept.path().join("old");
        let mut lightningd = several.start(1)?;
        several.servers[1].keep(&old)?;
        lightningd.pay()?;
        stop(lightningd)?;
        several.servers[1].go_back(&old)?;
        if said {
            several.servers[1].mark_restored()?;
        }
        // The two others hold everything: nobody is halted.
        let mut lightningd = several.start(2)?;
        lightningd.pay()?;
        let is_held = lines(&mut lightningd, "restored from a copy");
        ensure!(said != is_held.is_empty(), "{}", lightningd.plugin().says());
        stop(lightningd)?;
        if said {
            several.node.command(&["adopt"])?.success()?;
        }
        // From here on the one that went back is needed.
        let mut lightningd = several.start(3)?;
        several.servers[2].kill()?;
        lightningd.pay()?;
        stop(lightningd)?;
        several.check(1, "checked")?;
    }
    Ok(())
}

#[test]
fn a_roll_up_goes_to_all_servers_and_to_one_that_was_away_once_it_is_back() -> Result<()> {
    let mut several = Several::new(10, 3, "majority", ROLL_UP_OFTEN)?;
    let mut lightningd = several.start(1)?;
    let have = |several: &Several, which: &[usize]| {
        which.iter().all(|at| {
            several.servers[*at]
                .newest_base()
                .is_ok_and(|base| base.is_some())
        })
    };
    several.servers[2].kill()?;
    pay_until(&mut lightningd, "a snapshot at two", |_| have(&several, &[0, 1]))?;
    several.servers[2].restart()?;
    pay_until(&mut lightningd, "a snapshot at all", |_| {
        have(&several, &[0, 1, 2])
    })?;
    several.servers[0].kill()?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.check(2, "checked")?;
    Ok(())
}

#[test]
fn the_server_that_dies_within_a_roll_up_keeps_none_of_the_others_from_it() -> Result<()> {
    // Whichever of them the roll-up goes to first.
    for dies in 0..3_usize {
        let mut several = Several::new(30 + u64::try_from(dies)?, 3, "majority", ROLL_UP_OFTEN)?;
        several.proxies[dies].stop_at(Step {
            request: "POST /v1/chunks/locate",
            moment: Moment::Asked,
        });
        let mut lightningd = several.start(1)?;
        pay_until(&mut lightningd, "a roll-up at the one that dies", |_| {
            several.proxies[dies].has_stopped()
        })?;
        several.servers[dies].kill()?;
        several.proxies[dies].release();
        let others = (0..3).filter(|at| *at != dies);
        for other in others {
            pay_until(&mut lightningd, "a snapshot at the others", |_| {
                several.servers[other]
                    .newest_base()
                    .is_ok_and(|base| base.is_some())
            })?;
        }
        several.servers[dies].restart()?;
        pay_until(&mut lightningd, "a snapshot at the one that died", |_| {
            several.servers[dies]
                .newest_base()
                .is_ok_and(|base| base.is_some())
        })?;
        stop(lightningd)?;
    }
    Ok(())
}

#[test]
fn a_node_that_existed_before_starts_with_a_snapshot_at_enough_servers() -> Result<()> {
    let mut several = Several::new(11, 3, "majority", &[])?;
    several.servers[1].kill()?;
    // Written while no backup listened.
    let mut yes = Program::new(binary("yes-plugin")?);
    let heard = several.node.lightning_dir().join("heard");
    yes.variables
        .push(("YES_PLUGIN_LOG".to_owned(), heard.display().to_string()));
    let program = std::mem::replace(&mut several.options.program, yes);
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    several.options.program = program;
    let mut lightningd = several.start(2)?;
    lightningd.pay()?;
    several.servers[1].restart()?;
    pay_until(&mut lightningd, "a snapshot at the third", |_| {
        several.servers[1].newest_base().is_ok_and(|base| base.is_some())
    })?;
    several.servers[0].kill()?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.check(1, "checked")?;
    Ok(())
}

#[test]
fn servers_and_plugin_killed_at_random_lose_nothing_that_was_acknowledged() -> Result<()> {
    for seed in 0..6_u64 {
        let mut rng = Rng::new(seed);
        let arguments: &[&str] = if seed % 2 == 1 { ROLL_UP_OFTEN } else { &[] };
        let mut several = Several::new(300 + seed, 3, "majority", arguments)?;
        let mut lightningd = several.start(seed)?;
        for _ in 0..4 {
            let away = usize::try_from(rng.below(3))?;
            several.servers[away].kill()?;
            lightningd.pay().with_context(|| format!("seed {seed}"))?;
            if rng.one_in(2) {
                lightningd.kill()?;
                lightningd = several
                    .start_or_restart(rng.below(1000))
                    .with_context(|| format!("seed {seed}"))?;
                lightningd.pay().with_context(|| format!("seed {seed}"))?;
            }
            several.servers[away].restart()?;
        }
        stop(lightningd)?;
        let from = usize::try_from(rng.below(3))?;
        several
            .check(from, "checked")
            .with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

#[test]
fn a_configuration_that_names_other_servers_than_the_backup_halts() -> Result<()> {
    let mut several = Several::new(12, 3, "majority", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    let config = several.node.network_dir().join("backstop/config.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("\"majority\"", "\"all\""))?;
    let refused = several.start(2).err().context("it started")?;
    ensure!(refused.to_string().contains("names other servers"), "{refused}");
    std::fs::write(&config, text)?;
    stop(several.start(3)?)?;
    Ok(())
}

#[test]
fn status_says_which_server_is_away_and_that_the_node_is_protected_all_the_same() -> Result<()> {
    let mut several = Several::new(13, 3, "majority", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    let status = several.node.command(&["status"])?;
    ensure!(status.status == Some(0), "{status:?}");
    several.servers[1].kill()?;
    let status = several.node.command(&["status"])?;
    ensure!(
        status.status == Some(0) && status.stdout.contains("no answer"),
        "{status:?}"
    );
    several.node.command(&["verify"])?.success()?;
    several.node.command(&["history"])?.success()?;
    several.servers[2].kill()?;
    let status = several.node.command(&["status"])?;
    ensure!(
        status.status == Some(1) && status.stdout.contains("NOT PROTECTED"),
        "{status:?}"
    );
    Ok(())
}

#[test]
fn a_directory_that_is_adopted_with_one_of_three_away_goes_on_at_all_three() -> Result<()> {
    let mut several = Several::new(14, 3, "majority", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.servers[2].kill()?;
    several.check(0, "elsewhere")?;
    let refused = several.start(2).err().context("the old machine was let in")?;
    ensure!(refused.to_string().contains("backstop adopt"), "{refused}");
    several.node.command(&["adopt"])?.success()?;
    several.servers[2].restart()?;
    let mut lightningd = several.start(3)?;
    lightningd.pay()?;
    several.servers[0].kill()?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.check(2, "checked")?;
    Ok(())
}

#[test]
fn where_all_must_hold_each_update_one_suffices_to_restore_and_the_new_node_is_let_in_everywhere()
-> Result<()> {
    let mut several = Several::new(15, 2, "all", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.servers[1].kill()?;
    several.check(0, "new")?;
    several.servers[1].restart()?;
    let refused = several.start(2).err().context("the old machine was let in")?;
    ensure!(refused.to_string().contains("took this node over"), "{refused}");
    several.node = several.node.at(&several.restored("new"))?;
    let mut lightningd = several.start(3)?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.check(1, "checked")?;
    Ok(())
}
