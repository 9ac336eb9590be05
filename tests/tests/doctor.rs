//! What leaves a node unprotected without a word is found, and said with what mends it; and the way out is open.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    compare::assert_equal,
    node::{Node, Spoken},
    scene::Scene,
    signer::Signer,
    wallet::Journal,
};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};

/// One finding: what was looked at, how bad it is, what is said.
type Finding = (String, String, String);

/// What is found.
fn doctor(node: &Node) -> Result<(Spoken, Vec<Finding>)> {
    let spoken = node.command(&["doctor", "--json"])?;
    let report: Value = serde_json::from_str(&spoken.stdout).with_context(|| format!("{spoken:?}"))?;
    let findings = report.get("findings").and_then(Value::as_array);
    let findings = findings.context("no findings")?;
    let text = |finding: &Value, member: &str| {
        let text = finding.get(member).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            (
                text(finding, "check"),
                text(finding, "level"),
                text(finding, "says"),
            )
        })
        .collect();
    let healthy = findings.iter().all(|(_, level, _)| level != "wrong");
    assert_eq!(report.get("healthy"), Some(&Value::Bool(healthy)));
    assert_eq!(spoken.status, Some(i32::from(!healthy)), "{spoken:?}");
    Ok((spoken, findings))
}

fn wrong(node: &Node) -> Result<Vec<String>> {
    let (_, findings) = doctor(node)?;
    let wrong = findings.into_iter().filter(|(_, level, _)| level == "wrong");
    Ok(wrong.map(|(check, _, says)| format!("{check}: {says}")).collect())
}

#[test]
fn a_node_that_is_as_it_should_be_is_healthy_and_each_thing_that_is_not_is_named() -> Result<()> {
    let node = Node::new(51)?;
    ensure!(wrong(&node)?.iter().any(|wrong| wrong.contains("backstop setup")));

    let mut scene = Scene::new(52, Journal::Delete)?;
    let mode = |bits| fs::set_permissions(scene.node.hsm_secret(), fs::Permissions::from_mode(bits));
    mode(0o400)?;
    let socket = Signer::of(&scene.node)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let (spoken, findings) = doctor(&scene.node)?;
    assert_eq!(spoken.status, Some(0), "{findings:?}");
    for check in [
        "backup", "proof", "clock", "modes", "disk", "secret", "replica", "plugins", "systemd",
    ] {
        ensure!(
            findings.iter().any(|(found, ..)| found == check),
            "{check} is not looked at: {findings:?}"
        );
    }
    let said = scene.node.command(&["doctor"])?.success()?;
    ensure!(said.stdout.contains("\nHEALTHY: 0 wrong"), "{said:?}");

    let mode = |bits| fs::set_permissions(scene.node.hsm_secret(), fs::Permissions::from_mode(bits));
    mode(0o444)?;
    let found = wrong(&scene.node)?;
    ensure!(found.len() == 1 && found[0].contains("chmod go="), "{found:?}");
    mode(0o400)?;
    drop(socket);
    lightningd.stop(0)?;

    // Stopped: what the configuration says about the next start.
    fs::write(
        scene.node.lightning_dir().join("config"),
        "plugin=/somewhere/backstop\n",
    )?;
    let found = wrong(&scene.node)?;
    ensure!(
        found.len() == 1 && found[0].contains("important-plugin"),
        "{found:?}"
    );
    Ok(())
}

#[test]
fn the_backup_of_any_point_leaves_as_a_plain_file_and_nothing_is_written_over() -> Result<()> {
    let mut scene = Scene::new(53, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (then, now) = (file("then"), file("now"));
    let said = scene
        .node
        .command(&["export", "--to", &then, "--json"])?
        .success()?;
    let exported: Value = serde_json::from_str(&said.stdout)?;
    let seq = exported["seq"].as_u64().context("no seq")?.to_string();
    let earlier = fs::read(&then)?;
    lightningd.pay()?;
    let said = scene.node.command(&["export", "--to", &then])?.failure()?;
    ensure!(said.stderr.contains("exists"), "{said:?}");
    assert_eq!(fs::read(&then)?, earlier);
    let again = file("again");
    scene
        .node
        .command(&["export", "--to", &again, "--at", &seq])?
        .success()?;
    let said = scene
        .node
        .command(&["export", "--to", &file("never"), "--at", "999999"])?
        .failure()?;
    ensure!(!dir.path().join("never").exists(), "{said:?}");
    lightningd.stop(0)?;
    scene.node.command(&["export", "--to", &now])?.success()?;
    assert_equal(&dir.path().join("then"), &dir.path().join("again"))?;
    scene.oracle.check(&dir.path().join("now"))?;
    // Nobody was fenced off.
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}
