//! What a person types before anything runs, and what he is told about it.

use anyhow::{Context, Result, ensure};
use backstop_tests::{node::Node, rng::Rng, scene::Scene, servers::Server, wallet::Journal};
use serde_json::Value;
use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path};

/// Every file under a directory with its bytes and mode.
fn files(under: &Path) -> Result<BTreeMap<String, (Vec<u8>, u32)>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(under)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
            found.insert(path.display().to_string(), (std::fs::read(&path)?, mode));
        }
    }
    Ok(found)
}

fn status(node: &Node) -> Result<(i32, Value)> {
    let spoken = node.command(&["status", "--json"])?;
    Ok((
        spoken.status.context("killed")?,
        serde_json::from_str(&spoken.stdout).context(spoken.stdout)?,
    ))
}

#[test]
fn setup_writes_its_directory_and_says_which_line_to_add() -> Result<()> {
    let (server, node) = (Server::start()?, Node::new(1)?);
    let said = node.setup(&server.url())?;
    ensure!(said.stdout.contains("important-plugin="), "{said:?}");
    ensure!(said.stdout.contains(&node.node_id()?.to_string()), "{said:?}");
    let backstop = node.network_dir().join("backstop");
    let written = files(&backstop)?;
    let mode = |name: &str| {
        written
            .get(&backstop.join(name).display().to_string())
            .map(|(_, mode)| *mode)
    };
    assert_eq!(mode("key"), Some(0o400));
    for name in ["config.toml", "instance"] {
        assert_eq!(
            mode(name).map(|mode| mode & 0o077),
            Some(0),
            "{name} is for its owner alone"
        );
    }
    Ok(())
}

#[test]
fn no_secret_is_printed_where_nobody_watches() -> Result<()> {
    let (server, node) = (Server::start()?, Node::new(2)?);
    let said = node.setup(&server.url())?;
    let secret = hex::encode(std::fs::read(node.hsm_secret())?);
    let key = std::fs::read_to_string(node.network_dir().join("backstop/key"))?;
    for line in key
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(_, value)| value.trim().trim_matches('"'))
    {
        let is_secret = line.len() >= 64 && !said.stdout.contains(&node.node_id()?.to_string());
        ensure!(
            !(is_secret && said.stdout.contains(line)),
            "the key file's value is printed"
        );
    }
    ensure!(!said.stdout.contains(&secret) && !said.stderr.contains(&secret));
    Ok(())
}

#[test]
fn run_again_setup_changes_nothing() -> Result<()> {
    let (server, node) = (Server::start()?, Node::new(3)?);
    node.setup(&server.url())?;
    let before = files(node.lightning_dir())?;
    node.setup(&server.url())?;
    assert_eq!(files(node.lightning_dir())?, before);
    let other = Server::start()?;
    let said = node.command(&["setup", "--server", &other.url()])?.failure()?;
    ensure!(said.stderr.contains(&server.url()), "{said:?}");
    assert_eq!(files(node.lightning_dir())?, before);
    Ok(())
}

#[test]
fn a_setup_that_cannot_be_done_says_why_and_leaves_nothing() -> Result<()> {
    let server = Server::start()?;
    let mut gone = Server::start()?;
    gone.kill()?;
    let spoil = |what: &str, change: &dyn Fn(&Node) -> Result<()>, url: &str| -> Result<()> {
        let node = Node::new(4)?;
        change(&node)?;
        let before = files(node.lightning_dir())?;
        let said = node
            .command(&["setup", "--server", url])?
            .failure()
            .with_context(|| what.to_owned())?;
        ensure!(
            files(node.lightning_dir())? == before,
            "{what} left something: {said:?}"
        );
        Ok(())
    };
    let (url, away) = (server.url(), gone.url());
    spoil("a server that is away", &|_| Ok(()), &away)?;
    spoil("no URL", &|_| Ok(()), "not a url")?;
    spoil(
        "no secret",
        &|node| Ok(std::fs::remove_file(node.hsm_secret())?),
        &url,
    )?;
    spoil(
        "a short secret",
        &|node| Ok(std::fs::write(node.hsm_secret(), [1; 31])?),
        &url,
    )?;
    spoil(
        "a secret with a passphrase, and no terminal",
        &|node| Ok(std::fs::write(node.hsm_secret(), [7; 73])?),
        &url,
    )?;
    spoil(
        "words that are none",
        &|node| {
            Ok(std::fs::write(
                node.hsm_secret(),
                [[0; 32].as_slice(), b"no words at all here"].concat(),
            )?)
        },
        &url,
    )?;
    spoil(
        "no node",
        &|node| Ok(std::fs::remove_dir_all(node.network_dir())?),
        &url,
    )?;
    Ok(())
}

#[test]
fn whatever_stands_in_hsm_secret_setup_ends_in_order() -> Result<()> {
    let server = Server::start()?;
    let mut rng = Rng::new(5);
    for _ in 0..40 {
        let node = Node::new(5)?;
        let len = usize::try_from(rng.below(200))?;
        std::fs::write(node.hsm_secret(), rng.bytes(len))?;
        let said = node.command(&["setup", "--server", &server.url()])?;
        if said.status != Some(0) {
            said.failure()?;
        }
    }
    Ok(())
}

#[test]
fn status_tells_how_far_the_protection_goes() -> Result<()> {
    let node = Node::new(6)?;
    let (code, before) = status(&node)?;
    assert_eq!((code, &before["set_up"]), (1, &Value::Bool(false)));

    let mut scene = Scene::new(7, Journal::Delete)?;
    let (code, fresh) = status(&scene.node)?;
    assert_eq!(
        (code, &fresh["protected"], &fresh["plugin_running"]),
        (1, &Value::Bool(false), &Value::Bool(false))
    );

    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let (_, running) = status(&scene.node)?;
    assert_eq!(running["plugin_running"], Value::Bool(true), "{running}");
    assert_eq!(running["lightningd_running"], Value::Bool(true), "{running}");
    let server = &running["servers"][0];
    let seq = server["account"]["head"]["seq"].as_u64().context("no head")?;
    ensure!(usize::try_from(seq)? >= scene.oracle.batches(), "{running}");
    assert_eq!(server["restorable"], Value::Bool(true));
    lightningd.stop(0)?;

    // Stopped in order, everything it committed is backed up.
    let (code, stopped) = status(&scene.node)?;
    assert_eq!(
        (code, &stopped["plugin_running"]),
        (0, &Value::Bool(false)),
        "{stopped}"
    );
    scene.server.kill()?;
    let (code, away) = status(&scene.node)?;
    assert_eq!(code, 1);
    ensure!(away["servers"][0]["error"].is_string(), "{away}");
    Ok(())
}

#[test]
fn the_help_of_lightningd_beside_a_running_node_touches_nothing() -> Result<()> {
    let mut scene = Scene::new(8, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let before = files(&scene.node.network_dir().join("backstop"))?;
    let manifest = include_str!("../transcripts/manifest.txt");
    backstop_tests::golden::run(manifest, &scene.node, &scene.options.program)?;
    let after = files(&scene.node.network_dir().join("backstop"))?;
    let changed: Vec<_> = after
        .iter()
        .filter(|(name, file)| before.get(*name) != Some(file))
        .map(|(name, _)| name)
        .collect();
    // The plugin that runs writes the witness every few seconds, and its shadow follows in the background.
    let own = |name: &&String| name.ends_with("/witness") || name.contains("/backstop/shadow/");
    ensure!(changed.iter().all(own), "{changed:?}");
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}
