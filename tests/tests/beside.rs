//! What lies beside the database travels with it, comes back, and is never the secret.

use anyhow::{Context, Result, ensure};
use backstop::{
    files::{self, Files},
    node::{Ambient, Node as Loaded},
    random::SharedRng,
    seat::Seat,
};
use backstop_protocol::clock::SystemClock;
use backstop_tests::{
    lightningd::Lightningd,
    node::{Node, Spoken, backstop},
    scene::Scene,
    wallet::Journal,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(40);

/// The node as the plugin itself sees it.
fn loaded(node: &Node) -> Result<Loaded> {
    let ambient = Ambient {
        clock: Arc::new(SystemClock),
        rng: SharedRng::system(),
    };
    Ok(Loaded::load(&node.network_dir(), ambient)?)
}

fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

/// What the server has of them now, opened.
fn kept(node: &Node) -> Result<Option<Files>> {
    let loaded = loaded(node)?;
    wait(async {
        let (session, _) = loaded.open_reader().await?;
        anyhow::Ok(files::fetch(&session, &loaded.keys.files, None).await?)
    })?
}

/// Waits until the server has what `enough` asks for, while the node pays.
fn wait_until(scene: &Scene, lightningd: &mut Lightningd, enough: impl Fn(&Files) -> bool) -> Result<Files> {
    let begun = Instant::now();
    loop {
        lightningd.pay()?;
        if let Some(files) = kept(&scene.node)?.filter(&enough) {
            return Ok(files);
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "the files did not come\n{}",
            lightningd.plugin().says()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn has(files: &Files, name: &str, bytes: &[u8]) -> bool {
    let mut files = files.files.iter();
    files.any(|file| file.name.as_str() == name && file.bytes == bytes)
}

/// Changes the list in the configuration.
fn list(node: &Node, names: &[&str]) -> Result<()> {
    let path = node.network_dir().join("backstop/config.toml");
    let mut config: toml::Table = fs::read_to_string(&path)?.parse()?;
    let names = names.iter().map(|name| toml::Value::from(*name)).collect();
    config.insert("files".to_owned(), toml::Value::Array(names));
    Ok(fs::write(&path, toml::to_string(&config)?)?)
}

fn scb_only(node: &Node, server: &str, to: &Path) -> Result<Spoken> {
    let secret = node.hsm_secret();
    backstop(&[
        "restore",
        "--scb-only",
        "--server",
        server,
        "--to",
        to.to_str().context("a path")?,
        "--network",
        "regtest",
        "--hsm-secret",
        secret.to_str().context("a path")?,
    ])
}

#[test]
fn files_travel_when_they_change_and_come_back_byte_for_byte() -> Result<()> {
    let mut scene = Scene::new(1, Journal::Delete)?;
    let (net, base) = (scene.node.network_dir(), scene.node.lightning_dir().to_owned());
    let recovery: Vec<u8> = (0..=255).cycle().take(300).collect();
    fs::write(net.join("emergency.recover"), &recovery)?;
    fs::write(net.join("config"), "alias=one\n")?;
    let mut lightningd = scene.start(1)?;
    let first = wait_until(&scene, &mut lightningd, |files| files.files.len() == 2)?;
    ensure!(has(&first, "emergency.recover", &recovery) && has(&first, "config", b"alias=one\n"));
    fs::write(net.join("config"), "alias=two\n")?;
    fs::write(base.join("config"), "network=regtest\n")?;
    wait_until(&scene, &mut lightningd, |files| {
        has(files, "config", b"alias=two\n") && has(files, "../config", b"network=regtest\n")
    })?;
    lightningd.stop(0)?;

    let drill = scene.node.command(&["verify", "--json"])?.success()?;
    let drill: Value = serde_json::from_str(&drill.stdout)?;
    assert_eq!(
        drill["files"],
        serde_json::json!(["../config", "config", "emergency.recover"])
    );

    let to = tempfile::tempdir()?;
    fs::write(to.path().join("config"), "# of the new machine\n")?;
    let said = scene.node.restore(&scene.server.url(), to.path())?.success()?;
    ensure!(said.stdout.contains("config.from-backup"), "{said:?}");
    let read = |name: &str| fs::read(to.path().join(name));
    assert_eq!(read("regtest/emergency.recover")?, recovery);
    assert_eq!(read("regtest/config.from-backup")?, b"alias=two\n");
    assert_eq!(read("config.from-backup")?, b"network=regtest\n");
    assert_eq!(read("config")?, b"# of the new machine\n");
    let mode = fs::metadata(to.path().join("regtest/emergency.recover"))?
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o400);
    scene.check()
}

#[test]
fn the_secret_never_leaves_by_whatever_name_it_is_listed() -> Result<()> {
    let mut scene = Scene::new(2, Journal::Delete)?;
    let net = scene.node.network_dir();
    fs::write(net.join("emergency.recover"), [9; 57])?;
    symlink("hsm_secret", net.join("by-path"))?;
    fs::hard_link(net.join("hsm_secret"), net.join("by-name"))?;
    fs::copy(net.join("hsm_secret"), net.join("copy"))?;
    symlink("backstop/key", net.join("key"))?;
    let tricks = ["by-path", "by-name", "copy", "key"];
    list(&scene.node, &[&["emergency.recover"], &tricks[..]].concat())?;
    let mut lightningd = scene.start(1)?;
    let kept = wait_until(&scene, &mut lightningd, |_| true)?;
    let names: Vec<_> = kept.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["emergency.recover"]);
    let warnings: Vec<_> = lightningd.plugin().log().to_vec();
    for name in tricks {
        let said = warnings
            .iter()
            .filter(|(level, text)| level == "warn" && text.starts_with(&format!("{name} is listed")));
        assert_eq!(said.count(), 1, "{name}: {warnings:?}");
    }
    lightningd.stop(0)?;

    list(&scene.node, &["emergency.recover", "hsm_secret"])?;
    let refused = scene
        .start(2)
        .err()
        .context("it started with hsm_secret in its list")?;
    ensure!(
        refused.to_string().contains("hsm_secret is never uploaded"),
        "{refused}"
    );
    list(&scene.node, &["../../elsewhere"])?;
    ensure!(
        scene.start(3).is_err(),
        "it started with a path out of its directories"
    );
    list(&scene.node, &[])?;
    scene.start_or_restart(4)?.stop(0)?;
    scene.check()
}

#[test]
fn files_that_did_not_change_are_not_sent_again_by_the_next_run() -> Result<()> {
    let mut scene = Scene::new(3, Journal::Delete)?;
    fs::write(scene.node.network_dir().join("config"), "alias=one\n")?;
    let mut lightningd = scene.start(1)?;
    let first = wait_until(&scene, &mut lightningd, |_| true)?;
    lightningd.stop(0)?;
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    // Well beyond the first look.
    std::thread::sleep(Duration::from_secs(3));
    lightningd.pay()?;
    assert_eq!(kept(&scene.node)?, Some(first));
    lightningd.stop(0)?;
    scene.check()
}

#[test]
fn the_last_resort_brings_the_recovery_file_alone_and_says_what_it_costs() -> Result<()> {
    let mut scene = Scene::new(4, Journal::Delete)?;
    let to = tempfile::tempdir()?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let none = scb_only(&scene.node, &scene.server.url(), to.path())?.failure()?;
    ensure!(none.stderr.contains("holds no emergency.recover"), "{none:?}");
    // Nobody was fenced off for nothing.
    lightningd.pay()?;
    fs::write(scene.node.network_dir().join("emergency.recover"), [7; 200])?;
    fs::write(scene.node.network_dir().join("config"), "alias=one\n")?;
    wait_until(&scene, &mut lightningd, |files| files.files.len() == 2)?;
    lightningd.stop(0)?;

    let said = scb_only(&scene.node, &scene.server.url(), to.path())?.success()?;
    for words in [
        "LAST RESORT",
        "closes every channel",
        "emergencyrecover",
        "hsm_secret",
        "important-plugin",
    ] {
        ensure!(said.stdout.contains(words), "{words}: {said:?}");
    }
    let mut written: Vec<PathBuf> = fs::read_dir(to.path().join("regtest"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    written.sort();
    assert_eq!(written, [to.path().join("regtest/emergency.recover")]);
    assert_eq!(fs::read(to.path().join("regtest/emergency.recover"))?, [7; 200]);
    let refused = scene.start(2).err().context("the old machine went on")?;
    ensure!(refused.to_string().contains("took this node over"), "{refused}");
    // Where the database can be had after all, it still can.
    scene.oracle.check(&scene.restore("whole")?)?;
    Ok(())
}

/// Takes the writer's seat from outside the plugin and acts as the writer; the epoch before and after.
fn act(node: &Node) -> Result<(u64, u64)> {
    let loaded = loaded(node)?;
    wait(async {
        let (reader, before) = loaded.open_reader().await?;
        let doors = loaded.doors();
        let seat = Seat::take(&loaded, doors.first().context("a server")?, &before).await?;
        let files = Files {
            read_at: before.time,
            files: Vec::new(),
        };
        let sealed = files.seal(&loaded.keys.files, &mut loaded.ambient.rng.clone())?;
        seat.session.put_files(sealed.into()).await?;
        Ok((before.epoch, reader.account().await?.epoch))
    })?
}

#[test]
fn a_second_process_of_the_directory_acts_as_the_writer_and_disturbs_nobody() -> Result<()> {
    let mut scene = Scene::new(5, Journal::Delete)?;
    let (before, after) = act(&scene.node)?;
    assert_eq!((before, after), (0, 1), "nobody was the writer");
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let (before, after) = act(&scene.node)?;
    assert_eq!(before, after, "the running plugin stays the writer");
    lightningd.pay()?;
    lightningd.stop(0)?;
    let (before, after) = act(&scene.node)?;
    assert_eq!(before, after, "its last run still is");
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}

#[test]
fn a_restored_directory_acts_as_the_writer_and_the_old_one_does_not() -> Result<()> {
    let mut scene = Scene::new(6, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let to = tempfile::tempdir()?;
    scene.node.restore(&scene.server.url(), to.path())?.success()?;
    let epoch = {
        let loaded = loaded(&scene.node)?;
        let refused = act(&scene.node).err().context("it was let in")?;
        ensure!(refused.to_string().contains("another machine"), "{refused}");
        wait(loaded.open_reader())??.1.epoch
    };
    let mut restored = scene.node.at(to.path())?;
    assert_eq!(
        act(&restored)?,
        (epoch, epoch),
        "the restore itself was the last run"
    );
    std::mem::swap(&mut scene.node, &mut restored);
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}
