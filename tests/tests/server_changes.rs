//! Other servers for a node that is set up, with the real programs (SPEC 8.7).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    chaos_proxy::{ChaosProxy, Moment, Step},
    lightningd::Lightningd,
    scene::ROLL_UP_OFTEN,
    several::Several,
    watch::{PATIENCE, pay_until},
};
use std::process::{Command, Stdio};

/// Stops lightningd and wants an orderly end.
fn stop(lightningd: Lightningd) -> Result<()> {
    let (status, says) = lightningd.stop(0)?;
    ensure!(status == 0, "the plugin ended with {status}\n{says}");
    Ok(())
}

/// A node that has paid once.
fn lived(several: &mut Several) -> Result<()> {
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    stop(lightningd)
}

/// It goes on, and pays.
fn goes_on(several: &mut Several, seed: u64) -> Result<()> {
    let mut lightningd = several.start(seed)?;
    lightningd.pay()?;
    stop(lightningd)
}

#[test]
fn a_second_server_gets_the_backup_while_the_node_runs_and_counts_once_it_was_stopped() -> Result<()> {
    let mut several = Several::new(1, 1, "all", ROLL_UP_OFTEN)?;
    let mut lightningd = several.start(1)?;
    pay_until(&mut lightningd, "a snapshot", |_| {
        several.servers[0].newest_base().is_ok_and(|base| base.is_some())
    })?;
    let new = several.another(ROLL_UP_OFTEN)?;
    let refused = several.server("add", &[&new])?.failure()?;
    ensure!(refused.stderr.contains("--require majority"), "{refused:?}");
    let refused = several.server("add", &[&new, "--require", "all"])?.failure()?;
    ensure!(refused.stderr.contains("Stop lightningd"), "{refused:?}");
    ensure!(
        several.servers[1].newest_base()?.is_some(),
        "nothing was copied: {refused:?}"
    );
    lightningd.pay()?;
    stop(lightningd)?;
    let done = several.server("add", &[&new, "--require", "all"])?.success()?;
    ensure!(done.stdout.contains("2 of 2 must hold each update"), "{done:?}");
    let listed = several.server("list", &["--json"])?.success()?;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout)?;
    ensure!(listed["servers"][1]["url"] == new.as_str(), "{listed}");
    ensure!(listed["servers"][1]["behind"] == false, "{listed}");
    ensure!(listed["needed"] == 2 && listed["to_restore"] == 1, "{listed}");
    goes_on(&mut several, 2)?;
    let status = several.node.command(&["status"])?;
    ensure!(status.status == Some(0), "{status:?}");
    // The new one alone is the whole backup.
    several.servers[0].kill()?;
    several.check(1, "from the new one")?;
    Ok(())
}

#[test]
fn a_server_that_is_dead_for_good_is_replaced_and_what_it_held_leads_to_the_others() -> Result<()> {
    let mut several = Several::new(2, 3, "majority", &[])?;
    lived(&mut several)?;
    several.servers[1].kill()?;
    let new = several.another(&[])?;
    let old = several.proxies[1].url();
    let done = several.server("replace", &[&old, &new])?.success()?;
    ensure!(done.stdout.contains(&format!("{old} was not told")), "{done:?}");
    ensure!(
        done.stdout.contains(&format!("{old} keeps what it holds")),
        "{done:?}"
    );
    goes_on(&mut several, 2)?;
    // With the new one there are two.
    several.servers[0].kill()?;
    goes_on(&mut several, 3)?;
    several.servers[0].restart()?;
    several.servers[1].restart()?;
    // The one that is back knows of nothing: the others, which it names, do.
    several.check(1, "from the old one")?;
    Ok(())
}

#[test]
fn a_server_that_was_removed_tells_a_restore_where_the_backup_went_on() -> Result<()> {
    let mut several = Several::new(3, 2, "all", &[])?;
    lived(&mut several)?;
    let gone = several.proxies[0].url();
    several.server("remove", &[&gone])?.success()?;
    goes_on(&mut several, 2)?;
    several.servers[0].kill()?;
    goes_on(&mut several, 3)?;
    several.servers[0].restart()?;
    several.check(0, "from the removed one")?;
    several.node = several.node.at(&several.restored("from the removed one"))?;
    let listed = several.server("list", &[])?.success()?;
    ensure!(!listed.stdout.contains(&gone), "{listed:?}");
    goes_on(&mut several, 4)
}

#[test]
fn a_directory_that_knows_the_old_servers_alone_is_adopted_with_the_new_ones() -> Result<()> {
    let mut several = Several::new(4, 1, "all", &[])?;
    lived(&mut several)?;
    let copy = several.restored("copied");
    let copied = Command::new("cp")
        .arg("-a")
        .args([several.node.lightning_dir(), copy.as_path()])
        .status()?;
    ensure!(copied.success(), "cp: {copied}");
    let (old, new) = (several.proxies[0].url(), several.another(&[])?);
    several.server("replace", &[&old, &new])?.success()?;
    goes_on(&mut several, 2)?;
    several.node = several.node.at(&copy)?;
    let adopted = several.node.command(&["adopt"])?.success()?;
    ensure!(
        adopted.stdout.contains("went on with other servers"),
        "{adopted:?}"
    );
    goes_on(&mut several, 3)?;
    several.servers[0].kill()?;
    several.check(1, "checked")?;
    Ok(())
}

#[test]
fn the_last_server_is_not_removed_and_too_few_old_ones_need_a_persons_word() -> Result<()> {
    let mut several = Several::new(5, 3, "majority", &[])?;
    lived(&mut several)?;
    let urls: Vec<String> = several.proxies.iter().map(ChaosProxy::url).collect();
    let refused = several
        .server("remove", &[&urls[0], &urls[1], &urls[2]])?
        .failure()?;
    ensure!(refused.stderr.contains("has no backup"), "{refused:?}");
    let refused = several.server("remove", &["http://127.0.0.1:1"])?.failure()?;
    ensure!(refused.stderr.contains("is not backed up by"), "{refused:?}");
    several.servers[1].kill()?;
    several.servers[2].kill()?;
    let refused = several.server("remove", &[&urls[1]])?.failure()?;
    ensure!(refused.stderr.contains("--gone-for-good"), "{refused:?}");
    let refused = several
        .server("remove", &[&urls[1], "--gone-for-good"])?
        .failure()?;
    ensure!(refused.stderr.contains("takes several URLs"), "{refused:?}");
    goes_on_without(&mut several, &urls)
}

/// Without the second and the third of its servers.
fn goes_on_without(several: &mut Several, urls: &[String]) -> Result<()> {
    let [_, second, third] = urls else {
        anyhow::bail!("not three")
    };
    several
        .server("remove", &[second, third, "--gone-for-good"])?
        .success()?;
    goes_on(several, 2)?;
    several.check(0, "checked")?;
    Ok(())
}

#[test]
fn a_node_that_was_restored_from_fewer_servers_than_is_safe_goes_on_without_the_others() -> Result<()> {
    let mut several = Several::new(6, 3, "majority", &[])?;
    lived(&mut several)?;
    let urls: Vec<String> = several.proxies.iter().map(ChaosProxy::url).collect();
    several.servers[1].kill()?;
    several.servers[2].kill()?;
    let refused = several.try_restore(0, "new", &[])?.failure()?;
    ensure!(refused.stderr.contains("--fewer-servers"), "{refused:?}");
    let restored = several.try_restore(0, "new", &["--fewer-servers"])?.success()?;
    ensure!(restored.stdout.contains("WARNING"), "{restored:?}");
    several.node = several.node.at(&several.restored("new"))?;
    goes_on_without(&mut several, &urls)
}

#[test]
fn a_change_that_was_cut_off_halts_the_node_until_the_same_is_typed_again() -> Result<()> {
    for back in [false, true] {
        let mut several = Several::new(7 + u64::from(back), 1, "all", &[])?;
        lived(&mut several)?;
        let new = several.another(&[])?;
        // The old server gets nothing but the change itself.
        several.proxies[0].stop_at(Step {
            request: "POST /v1/records",
            moment: Moment::Answered,
        });
        let arguments = several.server_arguments("add", &[&new, "--require", "majority"])?;
        let mut child = Command::new(binary("backstop")?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let came = several.proxies[0].wait_for_stop(PATIENCE);
        child.kill()?;
        child.wait()?;
        ensure!(came, "the change never came to the server");
        several.proxies[0].release();
        let refused = several.start(2).err().context("it started")?;
        ensure!(
            refused
                .to_string()
                .contains(&format!("backstop server add {new}")),
            "{refused}"
        );
        let status = several.node.command(&["status"])?;
        ensure!(
            status.status == Some(1) && status.stdout.contains("not completed"),
            "{status:?}"
        );
        let other = several.another(&[])?;
        let refused = several.server("add", &[&other])?.failure()?;
        ensure!(refused.stderr.contains("another change was begun"), "{refused:?}");
        if back {
            several.servers[1].kill()?;
            several.server("remove", &[&new])?.success()?;
        } else {
            several
                .server("add", &[&new, "--require", "majority"])?
                .success()?;
        }
        goes_on(&mut several, 3)?;
        several.check(0, "checked")?;
    }
    Ok(())
}
