//! Other servers for a node that is set up, with the real programs (SPEC 8.7).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    chaos_proxy::{ChaosProxy, Moment, Step},
    lightningd::Lightningd,
    scene::ROLL_UP_OFTEN,
    servers::Server,
    several::Several,
    signer::Signer,
    watch::{PATIENCE, pay_until},
};
use std::{
    path::Path,
    process::{Command, Stdio},
};

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
    // The beginning of the log names those that are gone, its end the two that are there.
    several.check(2, "from the one that stayed")?;
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
    // What it still holds may go on a person's word.
    let id = several.node.node_id()?.to_string();
    let asked = several
        .node
        .command(&["delete-backup", "--server", &gone, "--confirm", &id])?
        .success()?;
    ensure!(
        asked.stdout.contains(&format!("--server {gone} --undo")),
        "{asked:?}"
    );
    several
        .node
        .command(&["delete-backup", "--server", &gone, "--undo"])?
        .success()?;
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
    let copied = several.restored("copied");
    copy(several.node.lightning_dir(), &copied)?;
    let (old, new) = (several.proxies[0].url(), several.another(&[])?);
    several.server("replace", &[&old, &new])?.success()?;
    goes_on(&mut several, 2)?;
    several.node = several.node.at(&copied)?;
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

/// Kills a change when its record is on the way to, or from, one of the servers.
fn cut_off(several: &Several, (at, moment): (usize, Moment), what: &str, more: &[&str]) -> Result<()> {
    let proxy = several.proxies.get(at).context("no such server")?;
    proxy.stop_at(Step {
        request: "POST /v1/records",
        moment,
    });
    let mut child = Command::new(binary("backstop")?)
        .args(several.server_arguments(what, more)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let came = proxy.wait_for_stop(PATIENCE);
    child.kill()?;
    child.wait()?;
    ensure!(came, "the change never came to the server");
    proxy.release();
    Ok(())
}

#[test]
fn a_change_that_was_cut_off_halts_the_node_until_the_same_is_typed_again() -> Result<()> {
    for back in [false, true] {
        let mut several = Several::new(7 + u64::from(back), 1, "all", &[])?;
        lived(&mut several)?;
        let new = several.another(&[])?;
        // The old server gets nothing but the change itself.
        cut_off(
            &several,
            (0, Moment::Answered),
            "add",
            &[&new, "--require", "majority"],
        )?;
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

/// Has a server forget everything of its nodes; its identity stays.
fn lose_everything(server: &Server) -> Result<()> {
    let database = server.data().join("backstop.sqlite3");
    for file in [
        database.clone(),
        database.with_extension("sqlite3-wal"),
        database.with_extension("sqlite3-shm"),
    ] {
        if file.exists() {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(copied.success(), "cp: {copied}");
    Ok(())
}

#[test]
fn one_of_three_that_lost_everything_gets_it_anew_while_the_node_goes_on() -> Result<()> {
    let mut several = Several::new(20, 3, "majority", ROLL_UP_OFTEN)?;
    let mut lightningd = several.start(1)?;
    pay_until(&mut lightningd, "a snapshot", |_| {
        several.servers[2].newest_base().is_ok_and(|base| base.is_some())
    })?;
    several.servers[2].kill()?;
    lose_everything(&several.servers[2])?;
    several.servers[2].restart()?;
    pay_until(&mut lightningd, "a snapshot at the one that lost it", |_| {
        several.servers[2].newest_base().is_ok_and(|base| base.is_some())
    })?;
    several.servers[0].kill()?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.check(2, "from the one that lost it")?;
    Ok(())
}

#[test]
fn one_of_three_that_went_back_to_an_older_copy_of_its_data_is_brought_up_to_date() -> Result<()> {
    for told in [false, true] {
        let mut several = Several::new(21 + u64::from(told), 3, "majority", &[])?;
        lived(&mut several)?;
        let kept = several.restored("kept");
        several.servers[2].stop()?;
        copy(several.servers[2].data(), &kept)?;
        several.servers[2].restart()?;
        let mut lightningd = several.start(2)?;
        lightningd.pay()?;
        several.servers[2].stop()?;
        std::fs::remove_dir_all(several.servers[2].data())?;
        copy(&kept, several.servers[2].data())?;
        if told {
            let said = Command::new(binary("backstop-server")?)
                .args(["restored", "--data"])
                .arg(several.servers[2].data())
                .output()?;
            ensure!(said.status.success(), "{said:?}");
        }
        several.servers[2].restart()?;
        // The others are as they should be: nobody waits.
        lightningd.pay()?;
        stop(lightningd)?;
        goes_on(&mut several, 3)?;
        if told {
            let status = several.node.command(&["status"])?;
            ensure!(
                status.status == Some(0) && status.stdout.contains("restored from a copy"),
                "{status:?}"
            );
            several.node.command(&["adopt"])?.success()?;
        }
        goes_on(&mut several, 4)?;
        several.servers[0].kill()?;
        goes_on(&mut several, 5)?;
        several.check(2, "checked")?;
    }
    Ok(())
}

#[test]
fn where_too_many_servers_lost_records_the_database_is_the_complete_one_on_a_persons_word() -> Result<()> {
    let mut several = Several::new(23, 3, "majority", &[])?;
    lived(&mut several)?;
    let refused = several
        .node
        .command(&["adopt", "--server-lost-records"])?
        .failure()?;
    ensure!(refused.stderr.contains("lost nothing"), "{refused:?}");
    let kept = several.restored("kept");
    std::fs::create_dir(&kept)?;
    for (at, server) in several.servers.iter_mut().enumerate() {
        server.stop()?;
        copy(server.data(), &kept.join(at.to_string()))?;
        server.restart()?;
    }
    goes_on(&mut several, 2)?;
    for (at, server) in several.servers.iter_mut().enumerate() {
        server.stop()?;
        std::fs::remove_dir_all(server.data())?;
        copy(&kept.join(at.to_string()), server.data())?;
        server.restart()?;
    }
    let refused = several.start(3).err().context("it started")?;
    ensure!(
        refused.to_string().contains("this database is complete"),
        "{refused}"
    );
    let refused = several.node.command(&["adopt"])?.failure()?;
    ensure!(refused.stderr.contains("--server-lost-records"), "{refused:?}");
    several
        .node
        .command(&["adopt", "--server-lost-records"])?
        .success()?;
    goes_on(&mut several, 4)?;
    let status = several.node.command(&["status"])?;
    ensure!(status.stdout.contains("backstop accept"), "{status:?}");
    let accepted = several.node.command(&["accept"])?.success()?;
    for proxy in &several.proxies {
        ensure!(accepted.stdout.contains(&proxy.url()), "{accepted:?}");
    }
    let status = several.node.command(&["status"])?;
    ensure!(!status.stdout.contains("backstop accept"), "{status:?}");
    several.servers[0].kill()?;
    several.check(1, "checked")?;
    Ok(())
}

#[test]
fn a_machine_that_was_taken_over_says_when_and_by_which_directory_on_every_start() -> Result<()> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    for (seed, count, rule) in [(30, 1, "all"), (31, 3, "majority")] {
        let mut several = Several::new(seed, count, rule, &[])?;
        let mut lightningd = several.start(1)?;
        lightningd.pay()?;
        several.try_restore(0, "new", &[])?.success()?;
        let dir = several.restored("new").display().to_string();
        let is_named = |said: &str| {
            said.contains("took this node over at ") && said.contains(&format!("{}, {dir}", host.trim_end()))
        };
        // While it runs, at its next batch.
        let refused = lightningd.pay().err().context("it was acknowledged")?;
        let said = lightningd.plugin().says();
        ensure!(is_named(&said), "{refused}: {said}");
        lightningd.kill()?;
        for start in 2..4 {
            let refused = several.start(start).err().context("it started")?;
            ensure!(is_named(&refused.to_string()), "{refused}");
        }
        // The new one goes on, and then the old one after all.
        let new = several.node.at(&several.restored("new"))?;
        let old = std::mem::replace(&mut several.node, new);
        goes_on(&mut several, 5)?;
        let new = std::mem::replace(&mut several.node, old);
        let adopted = several.node.command(&["adopt"])?.success()?;
        ensure!(adopted.stdout.contains("last heard from"), "{adopted:?}");
        let _old = std::mem::replace(&mut several.node, new);
        let refused = several.start(6).err().context("it started")?;
        ensure!(refused.to_string().contains(", by "), "{refused}");
    }
    Ok(())
}

#[test]
fn how_many_must_hold_an_update_is_changed_alone_and_back() -> Result<()> {
    let mut several = Several::new(40, 3, "all", &[])?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    let same = several.server("require", &["all"])?.success()?;
    ensure!(same.stdout.contains("nothing was changed"), "{same:?}");
    let refused = several.server("require", &["majority"])?.failure()?;
    ensure!(refused.stderr.contains("Stop lightningd"), "{refused:?}");
    stop(lightningd)?;
    let done = several.server("require", &["majority"])?.success()?;
    ensure!(done.stdout.contains("2 of 3 must hold each update"), "{done:?}");

    // One may be away now, and two are needed to restore.
    several.servers[2].kill()?;
    goes_on(&mut several, 2)?;
    several.servers[1].kill()?;
    several.try_restore(0, "too-few", &[])?.failure()?;
    let refused = several.server("require", &["all"])?.failure()?;
    ensure!(refused.stderr.contains("nothing was changed"), "{refused:?}");
    several.servers[1].restart()?;
    several.servers[2].restart()?;

    // The one that was away is brought to where the others are before the rule counts it.
    let done = several.server("require", &["all"])?.success()?;
    ensure!(done.stdout.contains("3 of 3 must hold each update"), "{done:?}");
    goes_on(&mut several, 3)?;
    several.servers[0].kill()?;
    several.servers[1].kill()?;
    several.check(2, "from the one that was away")?;
    Ok(())
}

#[test]
fn a_single_server_has_no_other_rule() -> Result<()> {
    let mut several = Several::new(41, 1, "all", &[])?;
    lived(&mut several)?;
    let refused = several.server("require", &["majority"])?.failure()?;
    ensure!(refused.stderr.contains("backstop server add URL"), "{refused:?}");
    goes_on(&mut several, 2)
}

#[test]
fn a_change_of_the_rule_that_was_cut_off_is_completed_or_taken_back() -> Result<()> {
    for (seed, again) in [(42, "majority"), (43, "all")] {
        let mut several = Several::new(seed, 2, "all", &[])?;
        lived(&mut several)?;
        cut_off(&several, (1, Moment::Asked), "require", &["majority"])?;
        let refused = several.start(2).err().context("it started")?;
        ensure!(
            refused.to_string().contains("backstop server require majority"),
            "{refused}"
        );
        several.server("require", &[again])?.success()?;
        goes_on(&mut several, 3)?;
        several.check(1, "checked")?;
    }
    Ok(())
}

/// The floors of serials, server by server.
fn floors(several: &Several) -> Result<Vec<u64>> {
    let listed = several.node.command(&["grants", "--json"])?.success()?;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout)?;
    let servers = listed.get("servers").and_then(|servers| servers.as_array());
    let servers = servers.context("no servers")?;
    let floors = servers.iter().map(|server| server["floor"].as_u64());
    floors.collect::<Option<_>>().context("no floor")
}

#[test]
fn a_server_that_comes_hears_which_grants_are_over_or_a_person_is_told_to_say_it() -> Result<()> {
    let mut several = Several::new(44, 1, "all", &[])?;
    lived(&mut several)?;
    let signer = Signer::of(&several.node)?;
    several.node.command(&["revoke"])?.success()?;
    drop(signer);
    let new = several.another(&[])?;
    let done = several.server("add", &[&new, "--require", "all"])?.success()?;
    ensure!(!done.stdout.contains("backstop revoke"), "{done:?}");
    let known = floors(&several)?;
    ensure!(known[0] > 1 && known[0] == known[1], "{known:?}");

    // A directory that was restored does not have the signed words.
    std::fs::remove_file(several.node.network_dir().join("backstop/revoked"))?;
    let third = several.another(&[])?;
    let done = several.server("add", &[&third])?.success()?;
    ensure!(done.stdout.contains(&format!("--below {}", known[0])), "{done:?}");
    goes_on(&mut several, 2)
}
