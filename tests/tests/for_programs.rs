//! What `--json` prints, on standard output alone: members that scripts were written for stay there and keep their meaning.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    device::Device,
    node::{Spoken, backstop},
    scene::Scene,
    signer::Signer,
    wallet::Journal,
};
use serde_json::Value;

fn json(spoken: &Spoken) -> Result<Value> {
    serde_json::from_str(&spoken.stdout).with_context(|| format!("{spoken:?}"))
}

/// The members of an object, in their order.
fn members(value: &Value) -> Result<Vec<&str>> {
    let object = value.as_object().with_context(|| format!("no object: {value}"))?;
    Ok(object.keys().map(String::as_str).collect())
}

fn has(value: &Value, wanted: &[&str]) -> Result<()> {
    let found = members(value)?;
    let missing: Vec<_> = wanted.iter().filter(|name| !found.contains(name)).collect();
    ensure!(missing.is_empty(), "{missing:?} in {value}");
    Ok(())
}

#[test]
fn every_report_has_the_members_that_scripts_read() -> Result<()> {
    let mut scene = Scene::new(420, Journal::Delete)?;
    let lightningds_socket = Signer::of(&scene.node)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;

    let status = json(&scene.node.command(&["status", "--json"])?.success()?)?;
    has(
        &status,
        &[
            "protected",
            "since",
            "node",
            "network",
            "expect",
            "servers",
            "problems",
        ],
    )?;
    ensure!(
        status["protected"] == true && status["since"].is_u64(),
        "{status}"
    );
    let doctor = json(&scene.node.command(&["doctor", "--json"])?)?;
    has(&doctor, &["healthy", "findings"])?;
    has(&doctor["findings"][0], &["check", "level", "says"])?;
    let history = json(&scene.node.command(&["history", "--json"])?.success()?)?;
    has(&history, &["oldest", "head", "snapshots", "log_bytes"])?;
    let drill = json(&scene.node.command(&["verify", "--json"])?.success()?)?;
    has(&drill, &["restorable", "error", "data_version", "records"])?;
    let directory = scene.node.lightning_dir().to_str().context("a path")?;
    let network = scene.node.network();
    let list = ["server", "list", "--json", "--lightning-dir", directory];
    let list = [&list[..], &["--network", network.as_str()]].concat();
    let servers = json(&backstop(&list)?.success()?)?;
    has(&servers, &["servers", "require", "needed", "to_restore"])?;
    let receipts = json(&scene.node.command(&["receipt", "--json"])?.success()?)?;
    has(&receipts[0], &["receipt", "signature", "file"])?;
    let kept = receipts[0]["file"].as_str().context("no file")?;
    let checked = json(
        &scene
            .node
            .command(&["receipt", "--check", kept, "--json"])?
            .success()?,
    )?;
    ensure!(checked == receipts, "{checked}");

    // The next one is of the device's own making.
    drop(lightningds_socket);
    let device = Device::granted(&scene.node)?;
    device.catch_up(&[])?.success()?;
    let mirror = json(&device.mirror(&["status"], &["--json"])?.success()?)?;
    has(&mirror, &["node", "network", "head", "expect", "heard_at", "now"])?;
    let grants = json(&scene.node.command(&["grants", "--json"])?.success()?)?;
    has(&grants, &["servers", "given"])?;
    has(&grants["servers"][0], &["url", "floor", "grants", "error"])?;
    let given = &grants["servers"][0]["grants"];
    has(
        &given[0],
        &["serial", "scope", "key", "own", "expires_at", "state"],
    )?;
    ensure!(
        given.as_array().is_some_and(|given| given.len() == 2) && given[0]["state"] == "valid",
        "{grants}"
    );
    lightningd.stop(0)?;
    Ok(())
}

#[test]
fn a_restore_says_what_it_did_to_programs_and_all_else_to_people() -> Result<()> {
    let mut scene = Scene::new(421, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let to = tempfile::tempdir()?;
    let (looked, new) = (to.path().join("looked"), to.path().join("new"));
    let (url, secret) = (scene.server.url(), scene.node.hsm_secret());
    let secret = secret.to_str().context("a path")?;
    let network = scene.node.network();
    let restore = |to: &std::path::Path, more: &[&str]| -> Result<Value> {
        let to = to.to_str().context("a path")?;
        let mut arguments = vec!["restore", "--server", &url, "--to", to, "--hsm-secret", secret];
        arguments.extend(["--network", network.as_str(), "--json"]);
        arguments.extend(more);
        let spoken = backstop(&arguments)?.success()?;
        ensure!(spoken.stderr.contains("Found "), "{spoken:?}");
        json(&spoken)
    };
    let past = restore(&looked, &["--at", "2"])?;
    ensure!(past["seq"] == 2 && past["fenced"] == false, "{past}");
    let done = restore(&new, &[])?;
    ensure!(
        done["fenced"] == true && done["seq"] == done["head"]["seq"],
        "{done}"
    );
    ensure!(
        done["node"] == scene.node.node_id()?.to_string().as_str(),
        "{done}"
    );
    let database = done["database"].as_str().context("no database")?;
    ensure!(
        std::fs::metadata(database)?.len() == done["database_bytes"].as_u64().context("bytes")?,
        "{done}"
    );
    Ok(())
}
