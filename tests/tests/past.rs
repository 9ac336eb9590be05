//! A drill beside the running node, and earlier states to look at.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    chaos_proxy::Weather,
    disk,
    node::{Node, Spoken, backstop},
    scene::Scene,
    wallet::Journal,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rusqlite::Connection;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Every file and directory under a directory.
fn names(under: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if under.exists() {
        for entry in std::fs::read_dir(under)? {
            let path = entry?.path();
            if path.is_dir() {
                found.extend(names(&path)?);
            }
            found.push(path);
        }
    }
    Ok(found)
}

/// What a drill of a node says as JSON, and how it ended.
fn drill(node: &Node) -> Result<(Option<i32>, Value)> {
    let said = node.command(&["verify", "--json"])?;
    let drill = serde_json::from_str(&said.stdout).with_context(|| format!("{said:?}"))?;
    let work = node.network_dir().join("backstop/work");
    let left: Vec<_> = names(&work)?
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("drill"))
        .collect();
    ensure!(left.is_empty(), "{left:?} is left");
    Ok((said.status, drill))
}

/// A node with a snapshot and a tail, stopped.
fn backed_up(seed: u64) -> Result<Scene> {
    let mut scene = Scene::new(seed, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    // The tail that nobody reports makes the next start upload a snapshot.
    lightningd.stop(1)?;
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    Ok(scene)
}

fn history(node: &Node) -> Result<Value> {
    let said = node.command(&["history", "--json"])?.success()?;
    Ok(serde_json::from_str(&said.stdout)?)
}

/// `restore --at` with the key file of the node's own directory.
fn look(node: &Node, at: &str, to: &Path) -> Result<Spoken> {
    let (dir, to) = (node.lightning_dir().to_str(), to.to_str());
    backstop(&[
        "restore",
        "--at",
        at,
        "--lightning-dir",
        dir.context("a path")?,
        "--network",
        node.network().as_str(),
        "--to",
        to.context("a path")?,
    ])
}

/// The version that a look says it gave.
fn version(said: &Spoken) -> Result<u64> {
    let (_, rest) = said.stdout.split_once("data_version ").context("no version")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

#[test]
fn a_drill_beside_a_node_that_pays_restores_the_head_it_read_and_disturbs_nobody() -> Result<()> {
    let mut scene = backed_up(1)?;
    let mut lightningd = scene.start(3)?;
    let epoch = history(&scene.node)?["head"]["epoch"].clone();
    let mut drills = 0;
    for _ in 0..3 {
        let node = &scene.node;
        let (status, found) = std::thread::scope(|scope| {
            let running = scope.spawn(move || drill(node));
            while !running.is_finished() {
                lightningd.pay()?;
            }
            running.join().map_err(|_| anyhow::anyhow!("a panic"))?
        })?;
        assert_eq!(status, Some(0), "{found}");
        assert_eq!(found["restorable"], Value::Bool(true));
        let (head, witness) = (&found["head"]["seq"], &found["witness"]["seq"]);
        ensure!(head.as_u64() >= witness.as_u64(), "{found}");
        ensure!(found["bytes_fetched"].as_u64() > Some(10_000), "{found}");
        ensure!(found["snapshot"]["base_seq"].is_u64(), "{found}");
        drills += 1;
    }
    assert_eq!(drills, 3);
    lightningd.pay()?;
    assert_eq!(history(&scene.node)?["head"]["epoch"], epoch, "nobody took over");
    lightningd.stop(0)?;
    scene.check()
}

#[test]
fn a_kept_drill_is_what_the_node_acted_on_and_bears_another_name() -> Result<()> {
    let scene = backed_up(2)?;
    let to = tempfile::tempdir()?;
    let keep = to.path().join("looks");
    let keep = keep.to_str().context("a path")?;
    let said = scene.node.command(&["verify", "--keep", keep])?.success()?;
    ensure!(said.stdout.starts_with("RESTORABLE"), "{said:?}");
    let kept = names(Path::new(keep))?;
    let [database] = kept.as_slice() else {
        anyhow::bail!("{kept:?}")
    };
    ensure!(!database.ends_with("lightningd.sqlite3"), "{database:?}");
    scene.oracle.check(database)?;
    let again = scene.node.command(&["verify", "--keep", keep])?.failure()?;
    ensure!(again.stderr.contains("exists"), "{again:?}");
    scene.oracle.check(database)?;
    Ok(())
}

/// Does something to what the server keeps, while it is off; a drill must say that the backup is worth nothing.
fn spoiled(seed: u64, spoil: impl FnOnce(&Path) -> Result<()>) -> Result<String> {
    let mut scene = backed_up(seed)?;
    assert_eq!(drill(&scene.node)?.0, Some(0));
    scene.server.kill()?;
    spoil(scene.server.data())?;
    scene.server.restart()?;
    let (status, found) = drill(&scene.node)?;
    assert_eq!(
        (status, found.get("restorable")),
        (Some(1), Some(&Value::Bool(false))),
        "{found}"
    );
    scene.node.command(&["verify"])?.failure()?;
    found
        .get("error")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .context("no reason")
}

fn packs(data: &Path) -> Result<Vec<PathBuf>> {
    let mut found = names(&data.join("packs"))?;
    found.retain(|path| path.is_file());
    ensure!(!found.is_empty(), "the server keeps no packs");
    Ok(found)
}

fn database(data: &Path) -> Result<Connection> {
    for path in names(data)? {
        if path
            .extension()
            .is_some_and(|ending| ending == "sqlite3" || ending == "db")
        {
            return Ok(Connection::open(path)?);
        }
    }
    anyhow::bail!("the server keeps no database")
}

#[test]
fn a_drill_finds_a_pack_that_rotted() -> Result<()> {
    let why = spoiled(3, |data| {
        for pack in packs(data)? {
            disk::damage_pack(&pack)?;
        }
        Ok(())
    })?;
    ensure!(why.contains("bad copy"), "{why}");
    Ok(())
}

#[test]
fn a_drill_finds_a_pack_that_is_lost() -> Result<()> {
    spoiled(4, |data| {
        for pack in packs(data)? {
            std::fs::remove_file(pack)?;
        }
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_drill_finds_a_record_that_is_lost_in_the_middle_or_at_the_end() -> Result<()> {
    // Both on servers that ask for no roll-up: what lies below the newest snapshot no restore needs.
    let why = spoiled(10, |data| {
        let sql = "DELETE FROM records WHERE seq = (SELECT max(seq) - 3 FROM records)";
        assert_eq!(database(data)?.execute(sql, [])?, 1);
        Ok(())
    })?;
    ensure!(why.contains("not the chain"), "{why}");
    // A server that forgot its last records, and knows nothing of them: only the witness does.
    let why = spoiled(6, |data| {
        database(data)?.execute_batch(
            "DELETE FROM records WHERE seq > (SELECT max(seq) - 2 FROM records);
             UPDATE accounts SET (head_seq, head_epoch, head_hash)
                = (SELECT seq, epoch, hash FROM records ORDER BY seq DESC LIMIT 1);",
        )?;
        Ok(())
    })?;
    ensure!(why.contains("was acknowledged"), "{why}");
    Ok(())
}

#[test]
fn a_drill_that_is_interrupted_leaves_nothing() -> Result<()> {
    let scene = backed_up(7)?;
    let work = scene.node.network_dir().join("backstop/work");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // So slow that it has begun and is not over.
        scene.proxy.set(Weather::Delay(Duration::from_millis(300)));
        let mut running = Command::new(binary("backstop")?)
            .args(["verify", "--network", "regtest", "--lightning-dir"])
            .arg(scene.node.lightning_dir())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let begun = Instant::now();
        while names(&work)?.is_empty() {
            ensure!(begun.elapsed() < Duration::from_mins(1), "it never began");
            ensure!(running.try_wait()?.is_none(), "it ended too early");
            std::thread::sleep(Duration::from_millis(2));
        }
        kill(Pid::from_raw(i32::try_from(running.id())?), signal)?;
        let ended = running.wait_with_output()?;
        assert_eq!(ended.status.code(), Some(1));
        ensure!(String::from_utf8_lossy(&ended.stderr).contains("stopped"));
        ensure!(names(&work)?.is_empty(), "something is left");
        scene.proxy.set(Weather::Clear);
    }
    assert_eq!(drill(&scene.node)?.0, Some(0));
    Ok(())
}

#[test]
fn the_state_after_any_record_is_the_one_that_the_node_acted_on_then() -> Result<()> {
    let scene = backed_up(8)?;
    let past = history(&scene.node)?;
    let (oldest, head) = (past["oldest"].as_u64(), past["head"]["seq"].as_u64());
    let (oldest, head) = (oldest.context("no oldest")?, head.context("no head")?);
    let base = past["snapshots"][0]["base_seq"].as_u64().context("no snapshot")?;
    let to = tempfile::tempdir()?;
    let mut last = 0;
    for seq in [oldest, oldest + 5, base - 2, base, base + 1, head - 1, head] {
        let said = look(&scene.node, &seq.to_string(), to.path())?.success()?;
        ensure!(said.stdout.contains("LOOK ONLY"), "{said:?}");
        let version = version(&said)?;
        ensure!(version >= last, "version {version} after {last}");
        last = version;
        let database = to.path().join(format!("lightningd-at-record-{seq}.sqlite3"));
        scene
            .oracle
            .check_at(version, &database)
            .with_context(|| format!("record {seq}"))?;
        let again = look(&scene.node, &seq.to_string(), to.path())?.failure()?;
        ensure!(again.stderr.contains("exists"), "{again:?}");
    }
    assert_eq!(last, scene.oracle.version());
    let said = look(&scene.node, &(oldest - 1).to_string(), to.path())?.failure()?;
    ensure!(said.stderr.contains(&format!("record {oldest}")), "{said:?}");
    let said = look(&scene.node, &(head + 1).to_string(), to.path())?.failure()?;
    ensure!(said.stderr.contains(&format!("record {head}")), "{said:?}");
    look(&scene.node, "1970-01-02T00:00:00Z", to.path())?.failure()?;
    look(&scene.node, "yesterday", to.path())?.failure()?;
    assert_eq!(names(to.path())?.len(), 7, "the seven databases alone");
    Ok(())
}

#[test]
fn the_state_at_a_time_is_found_from_the_secret_alone_while_the_node_goes_on() -> Result<()> {
    let mut scene = Scene::new(9, Journal::Wal)?;
    let mut lightningd = scene.start(1)?;
    let before = lightningd.pay()?;
    let said = scene.node.command(&["history"])?.success()?;
    let log = said
        .stdout
        .lines()
        .find(|line| line.starts_with("log"))
        .context("no log")?;
    let then = log.split(' ').next_back().context("no time")?.to_owned();
    std::thread::sleep(Duration::from_millis(20));
    lightningd.pay()?;
    let to = tempfile::tempdir()?;
    let (url, path) = (scene.server.url(), to.path().to_str().context("a path")?);
    let secret = scene.node.hsm_secret();
    let said = backstop(&[
        "restore",
        "--at",
        &then,
        "--server",
        &url,
        "--to",
        path,
        "--network",
        "regtest",
        "--hsm-secret",
        secret.to_str().context("a path")?,
    ])?
    .success()?;
    assert_eq!(version(&said)?, before, "{said:?}");
    let written = names(to.path())?;
    let [database] = written.as_slice() else {
        anyhow::bail!("{written:?}: no config, no key, no instance")
    };
    scene.oracle.check_at(before, database)?;
    // Nobody was taken over.
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}

#[test]
fn where_nothing_is_held_there_is_nothing_to_accept_and_nobody_is_disturbed() -> Result<()> {
    let mut scene = Scene::new(10, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let said = scene.node.command(&["accept"])?.success()?;
    ensure!(said.stdout.contains("nothing to accept"), "{said:?}");
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}
