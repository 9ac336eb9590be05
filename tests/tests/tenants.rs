//! A node as a tenant: how it comes, what it is told of its room, how its backup goes.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary, lightningd::Lightningd, node::Node, scene::Scene, servers::Server, wallet::Journal,
    watch::PATIENCE,
};
use serde_json::Value;
use std::{process::Command, time::Instant};

/// What an operator types beside a server, and what he is told.
fn operator(server: &Server, words: &[&str]) -> Result<Value> {
    let mut command = Command::new(binary("backstop-server")?);
    let said = command
        .args(words)
        .args(["--json", "--data"])
        .arg(server.data())
        .output()?;
    ensure!(said.status.success(), "{said:?}");
    Ok(serde_json::from_slice(&said.stdout)?)
}

fn stop(lightningd: Lightningd) -> Result<()> {
    let (status, says) = lightningd.stop(0)?;
    ensure!(status == 0, "the plugin ended with {status}\n{says}");
    Ok(())
}

#[test]
fn with_an_invitation_one_node_comes_and_who_has_none_is_told_whom_to_ask() -> Result<()> {
    let server = Server::start_with(&["--registration", "invite"])?;
    let (node, other) = (Node::new(41)?, Node::new(42)?);
    let refused = node.command(&["setup", "--server", &server.url()])?.failure()?;
    ensure!(refused.stderr.contains("--invite"), "{refused:?}");
    let made = operator(&server, &["invite", "create", "--uses", "1"])?;
    let invite = made
        .get("invite")
        .and_then(Value::as_str)
        .context("no invitation")?;
    let setup = ["setup", "--server", &server.url(), "--invite", invite];
    node.command(&setup)?.success()?;
    let refused = other.command(&setup)?.failure()?;
    ensure!(refused.stderr.contains("--invite"), "{refused:?}");
    // Nobody keeps it: neither on the node's machine nor on the server's.
    for file in ["config.toml", "key"] {
        let text = std::fs::read_to_string(node.network_dir().join("backstop").join(file))?;
        ensure!(!text.contains(invite), "{file} holds the invitation");
    }
    let invites = operator(&server, &["invite", "list"])?;
    ensure!(invites.pointer("/0/used") == Some(&Value::from(1)), "{invites}");
    ensure!(!invites.to_string().contains(invite), "{invites}");
    Ok(())
}

#[test]
fn status_says_how_much_room_is_left_as_it_runs_out() -> Result<()> {
    let mut scene = Scene::with(44, Journal::Delete, &["--quota", "1GiB"])?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    let id = scene.node.node_id()?.to_string();
    let said = scene.node.command(&["status", "--json"])?;
    let said: Value = serde_json::from_str(&said.stdout)?;
    let used = said
        .pointer("/servers/0/account/quota/used")
        .and_then(Value::as_u64);
    let used = used.context("no use")?;
    // The quota in hundredths of what is used; what is said, and whether it is an alarm.
    for (percent, line, alarm) in [
        (300, " bytes used\n", false),
        (115, "RUNS OUT", false),
        (95, "USED UP", true),
        (50, "USED UP", true),
    ] {
        let quota = (used * percent / 100).to_string();
        operator(&scene.server, &["node", "quota", &id, &quota])?;
        let said = scene.node.command(&["status"])?;
        let room = format!("room     {used} of {quota} bytes used");
        ensure!(
            said.stdout.contains(&room) && said.stdout.contains(line),
            "{percent}: {said:?}"
        );
        let told = said.stdout.contains("Ask the server's operator for more room");
        ensure!(told == alarm, "{percent}: {said:?}");
        ensure!((said.status != Some(0)) == alarm, "{percent}: {said:?}");
    }
    // Beyond the overdraft the node waits with its next commit, and goes on once there is room.
    let operator_gives = || operator(&scene.server, &["node", "quota", &id, "none"]);
    operator_gives()?;
    let mut lightningd = Lightningd::start(&scene.node, &scene.options)?;
    lightningd.pay()?;
    stop(lightningd)?;
    scene.check()
}

#[test]
fn an_owner_takes_a_removal_back_and_asks_again_and_then_nothing_is_left() -> Result<()> {
    let mut scene = Scene::with(43, Journal::Delete, &["--removal-delay", "3s"])?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let id = scene.node.node_id()?.to_string();
    let asked = ["delete-backup", "--confirm", &id];
    let refused = scene.node.command(&asked)?.failure()?;
    ensure!(refused.stderr.contains("stop lightningd"), "{refused:?}");
    stop(lightningd)?;
    let unsaid = scene.node.command(&["delete-backup"])?.failure()?;
    ensure!(unsaid.stderr.contains(&format!("--confirm {id}")), "{unsaid:?}");
    let other = Node::new(99)?.node_id()?.to_string();
    let wrong = scene
        .node
        .command(&["delete-backup", "--confirm", &other])?
        .failure()?;
    ensure!(wrong.stderr.contains("nothing was asked for"), "{wrong:?}");

    let said = scene.node.command(&asked)?.success()?;
    ensure!(said.stdout.contains("--undo"), "{said:?}");
    let status = scene.node.command(&["status"])?;
    ensure!(
        status.stdout.contains("removes everything of this node"),
        "{status:?}"
    );
    let said = scene.node.command(&["delete-backup", "--undo"])?.success()?;
    ensure!(said.stdout.contains("keeps the backup"), "{said:?}");
    scene.check()?;

    scene.node.command(&asked)?.success()?;
    let started = Instant::now();
    loop {
        // A start looks after every node.
        scene.server.kill()?;
        scene.server.restart()?;
        let nodes = operator(&scene.server, &["node", "list"])?;
        if nodes.pointer("/nodes") == Some(&Value::Array(vec![])) {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "still there: {nodes}");
    }
    ensure!(scene.server.bytes_of_packs()? == 0, "packs are left");
    scene.try_restore("gone")?.failure()?;
    Ok(())
}
