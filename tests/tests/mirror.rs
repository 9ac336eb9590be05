//! A second copy of the backup on another device: it follows record by record, outlives the server, and is restored from
//! without one.

use anyhow::{Context, Result, ensure};
use backstop_protocol::head::Head;
use backstop_tests::{
    chaos_proxy::{Direction, Weather},
    device::Device,
    disk,
    node::{Node, restored_database},
    rng::Rng,
    scene::Scene,
    signer::Signer,
    wallet::Journal,
};
use serde_json::Value;
use std::{path::Path, process::Command, time::Duration};

const OFF: &[&str] = &["--old-node-is-off"];

/// Where the server's chain ends, as `status` says it.
fn head(node: &Node) -> Result<Head> {
    let said: Value = serde_json::from_str(&node.command(&["status", "--json"])?.stdout)?;
    let head = said.pointer("/servers/0/account/head").context("no head")?;
    Ok(serde_json::from_value(head.clone())?)
}

/// Restores from the mirror alone and compares with what the node acted on.
fn is_whole(scene: &Scene, device: &Device, to: &Path) -> Result<()> {
    device.restore(&scene.node, to, OFF)?.success()?;
    scene.oracle.check(&restored_database(to, scene.node.network()))?;
    Ok(())
}

#[test]
fn a_mirror_follows_record_by_record_and_is_restored_from_without_any_server() -> Result<()> {
    // An odd seed: the log is rolled up on the way.
    let mut scene = Scene::new(21, Journal::Delete)?;
    let device = Device::granted(&scene.node)?;
    let mut lightningd = scene.start(1)?;
    let running = device.run()?;
    for _ in 0..4 {
        lightningd.pay()?;
        device.reaches(head(&scene.node)?)?;
    }
    // The server goes and comes back, and the mirror goes on by itself.
    scene.server.kill()?;
    scene.server.restart()?;
    lightningd.pay()?;
    device.reaches(head(&scene.node)?)?;
    lightningd.stop(0)?;
    let last = head(&scene.node)?;
    device.reaches(last)?;
    running.kill()?;
    // What the node saw acknowledged is what another machine may expect.
    let said: Value = serde_json::from_str(&scene.node.command(&["status", "--json"])?.stdout)?;
    assert_eq!(said.get("expect"), Some(&Value::from(last.to_string())));
    scene.server.kill()?;

    let to = tempfile::tempdir()?;
    let unsaid = device
        .restore(&scene.node, &to.path().join("unsaid"), &[])?
        .failure()?;
    ensure!(unsaid.stderr.contains("--old-node-is-off"), "{unsaid:?}");
    let more = Head {
        seq: last.seq + 1,
        ..last
    }
    .to_string();
    let refused = [OFF, &["--expect", &more]].concat();
    let refused = device
        .restore(&scene.node, &to.path().join("refused"), &refused)?
        .failure()?;
    ensure!(refused.stderr.contains("was expected"), "{refused:?}");
    ensure!(!restored_database(&to.path().join("refused"), scene.node.network()).exists());

    let place = last.to_string();
    let exactly = [OFF, &["--expect", &place]].concat();
    let said = device
        .restore(&scene.node, &to.path().join("good"), &exactly)?
        .success()?;
    ensure!(
        said.stdout.contains("NOBODY IS FENCED OFF") && said.stdout.contains("s ago"),
        "{said:?}"
    );
    scene
        .oracle
        .check(&restored_database(&to.path().join("good"), scene.node.network()))?;
    // Nothing of it makes the node a writer by itself.
    ensure!(!to.path().join("good/regtest/backstop").exists());
    Ok(())
}

#[test]
fn killed_at_any_moment_a_mirror_goes_on_from_there() -> Result<()> {
    let seed = 23;
    let mut scene = Scene::new(seed, Journal::Delete)?;
    let mut rng = Rng::new(seed);
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let device = Device::granted(&scene.node)?;
    for _ in 0..8 {
        let running = device.run()?;
        lightningd.pay()?;
        std::thread::sleep(Duration::from_millis(rng.below(120)));
        running.kill()?;
    }
    lightningd.stop(0)?;
    device.catch_up(&[])?.success()?;
    assert_eq!(device.state()?.head, head(&scene.node)?);
    let to = tempfile::tempdir()?;
    is_whole(&scene, &device, &to.path().join("restored"))
}

#[test]
fn whatever_the_network_cuts_a_mirror_takes_nothing_half_and_goes_on() -> Result<()> {
    let seed = 35;
    let mut scene = Scene::new(seed, Journal::Delete)?;
    let mut rng = Rng::new(seed);
    let device = Device::granted(&scene.node)?;
    let mut cuts = 0;
    for round in 0..3 {
        let mut lightningd = scene.start(round)?;
        lightningd.pay()?;
        lightningd.stop(0)?;
        for _ in 0..6 {
            let bytes = rng.below(30_000);
            scene.proxy.set(Weather::Cut(Direction::ToClient, bytes));
            if device.catch_up(&[])?.status != Some(0) {
                cuts += 1;
            }
        }
        scene.proxy.set(Weather::Clear);
        device.catch_up(&[])?.success()?;
        assert_eq!(device.state()?.head, head(&scene.node)?);
        let to = tempfile::tempdir()?;
        is_whole(&scene, &device, &to.path().join("restored"))?;
    }
    ensure!(cuts > 0, "nothing was ever cut (seed {seed})");
    Ok(())
}

#[test]
fn a_mirror_without_room_says_so_and_goes_on_once_there_is_some() -> Result<()> {
    let mut scene = Scene::new(39, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.write_large(200_000)?;
    while scene.server.bytes_of_packs()? < 100_000 {
        lightningd.pay()?;
    }
    lightningd.stop(0)?;
    let device = Device::granted(&scene.node)?;
    let packs = device.dir().join("packs");
    std::fs::create_dir(&packs)?;
    let Some(words) = disk::with_room(4 << 10, &packs) else {
        return Ok(());
    };
    let (program, words) = words.split_first().context("no command")?;
    let said = Command::new(program)
        .args(words)
        // Not the smallest pack fits: what did would be gone with this file system.
        .args(["sh", "-c", "head -c 4096 /dev/zero > \"$0\"; exec \"$@\""])
        .arg(packs.join("full"))
        .arg(backstop_tests::binaries::binary("backstop")?)
        .args(["mirror", "run", "--once", "--dir"])
        .arg(device.dir())
        .arg("--grant")
        .arg(device.ticket())
        .output()?;
    let text = String::from_utf8_lossy(&said.stderr);
    ensure!(
        said.status.code() == Some(1) && text.contains("packs"),
        "{said:?}"
    );
    // Without its snapshot the log is worth nothing: it was not begun.
    ensure!(device.state()?.head.is_empty());
    device.catch_up(&[])?.success()?;
    let to = tempfile::tempdir()?;
    is_whole(&scene, &device, &to.path().join("restored"))
}

#[test]
fn a_mirror_that_was_damaged_puts_nothing_in_place() -> Result<()> {
    let mut scene = Scene::new(37, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    while scene.server.newest_base()?.is_none() {
        lightningd.pay()?;
    }
    lightningd.pay()?;
    lightningd.stop(0)?;
    let device = Device::granted(&scene.node)?;
    device.catch_up(&[])?.success()?;
    let to = tempfile::tempdir()?;
    let refused = |name: &str| -> Result<()> {
        let to = to.path().join(name);
        device.restore(&scene.node, &to, OFF)?.failure()?;
        ensure!(!restored_database(&to, scene.node.network()).exists(), "{name}");
        Ok(())
    };
    let packs = packs(&device.dir().join("packs"))?;
    ensure!(!packs.is_empty(), "the mirror holds no pack");
    for pack in &packs {
        disk::damage_pack(pack)?;
    }
    refused("packs")?;
    // The same of a record: a snapshot does not help over one that is not what was sealed.
    let index = rusqlite::Connection::open(device.dir().join("index.sqlite3"))?;
    index.execute_batch(
        "UPDATE records SET sealed = CAST(substr(sealed, 1, 200) || x'00ff' || substr(sealed, 203) AS BLOB)
         WHERE seq = (SELECT max(seq) FROM records)",
    )?;
    refused("record")
}

/// The packs under a directory.
fn packs(under: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(under)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(packs(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn a_mirror_with_the_wrong_grant_or_none_says_what_to_do() -> Result<()> {
    let scene = Scene::new(24, Journal::Delete)?;
    let (device, other) = (Device::granted(&scene.node)?, Device::granted(&scene.node)?);
    let said = device.mirror(&["run", "--once"], &[])?.failure()?;
    ensure!(
        said.stderr.contains("backstop grant") && said.stderr.contains(&device.key()?),
        "{said:?}"
    );
    std::fs::copy(other.ticket(), device.ticket())?;
    let said = device.catch_up(&[])?.failure()?;
    ensure!(said.stderr.contains(&device.key()?), "{said:?}");
    let given = scene.node.command(&["grants"])?.success()?;
    ensure!(
        given.stdout.contains(&device.key()?) && given.stdout.contains(&other.key()?),
        "{given:?}"
    );
    Ok(())
}

#[test]
fn a_revoked_mirror_is_refused_while_the_node_that_runs_goes_on() -> Result<()> {
    let mut scene = Scene::new(26, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let device = Device::granted(&scene.node)?;
    device.catch_up(&[])?.success()?;
    let held = device.state()?;
    let signer = Signer::of(&scene.node)?;
    scene.node.command(&["revoke"])?.success()?;
    drop(signer);
    let said = device.catch_up(&[])?.failure()?;
    ensure!(said.stderr.contains("grant_revoked"), "{said:?}");
    assert_eq!(device.state()?, held);
    let listed = scene.node.command(&["grants"])?.success()?;
    ensure!(
        listed.stdout.contains("REVOKED") && listed.stdout.contains("(this node's own)"),
        "{listed:?}"
    );

    // The node's own grant was renewed on the way: it goes on, and starts again.
    lightningd.pay()?;
    lightningd.stop(0)?;
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()?;
    device.grant(&scene.node, "2h")?;
    device.catch_up(&[])?.success()?;
    assert_eq!(device.state()?.head, head(&scene.node)?);
    Ok(())
}

#[test]
fn a_grant_is_signed_by_hand_too_and_by_the_node_alone() -> Result<()> {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let scene = Scene::new(28, Journal::Delete)?;
    let device = Device::granted(&scene.node)?;
    let (key, dir) = (device.key()?, scene.node.lightning_dir().to_owned());
    for (signing, good) in [(&scene.node, true), (&Node::new(29)?, false)] {
        let mut child = Command::new(backstop_tests::binaries::binary("backstop")?)
            .args([
                "grant",
                "--network",
                "regtest",
                "--expires",
                "never",
                "--by-hand",
                "--key",
                &key,
            ])
            .arg("--lightning-dir")
            .arg(&dir)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut line = String::new();
        while !line.contains("signmessage") {
            line.clear();
            ensure!(stderr.read_line(&mut line)? > 0, "it shows no text");
        }
        let text = line.split('"').nth(1).context("no text")?;
        let signature = backstop_protocol::signmessage::sign(text, &signing.key()?);
        writeln!(child.stdin.take().context("no stdin")?, "{signature}")?;
        let mut said = String::new();
        stderr.read_to_string(&mut said)?;
        let output = child.wait_with_output()?;
        assert_eq!(output.status.success(), good, "{said}");
        assert_eq!(String::from_utf8(output.stdout)?.contains(text), good);
    }
    Ok(())
}

#[test]
fn a_server_that_lost_records_holds_the_node_until_its_owner_goes_on_and_a_mirror_keeps_what_was_lost()
-> Result<()> {
    let mut scene = Scene::new(30, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let device = Device::granted(&scene.node)?;
    let kept = tempfile::tempdir()?;
    scene.server.stop()?;
    disk::copy_directory(scene.server.data(), &kept.path().join("old"))?;
    scene.server.restart()?;
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let lost = head(&scene.node)?;
    device.catch_up(&[])?.success()?;

    // The operator brings back the copy, and says so.
    scene.server.stop()?;
    std::fs::remove_dir_all(scene.server.data())?;
    disk::copy_directory(&kept.path().join("old"), scene.server.data())?;
    scene.server.mark_restored()?;
    scene.server.restart()?;
    let status = scene.node.command(&["status"])?;
    ensure!(status.stdout.contains("restored from a copy"), "{status:?}");
    for _ in 0..2 {
        let Err(failed) = scene.start(3) else {
            anyhow::bail!("the node started on a server that lost its records")
        };
        ensure!(failed.to_string().contains("backstop adopt"), "{failed}");
    }
    // What was acknowledged is in the mirror, and a server that has less takes nothing from it.
    let said = device.catch_up(&[])?.failure()?;
    ensure!(said.stderr.contains("holds"), "{said:?}");
    assert_eq!(device.state()?.head, lost);
    let expected = lost.to_string();
    let to = kept.path().join("restored-from-the-server");
    let said = backstop_tests::node::backstop(&[
        "restore",
        "--server",
        &scene.server.url(),
        "--network",
        "regtest",
        "--hsm-secret",
        scene.node.hsm_secret().to_str().context("a path")?,
        "--to",
        to.to_str().context("a path")?,
        "--expect",
        &expected,
    ])?
    .failure()?;
    ensure!(said.stderr.contains("was expected"), "{said:?}");

    let said = scene.node.command(&["adopt"])?.failure()?;
    ensure!(said.stderr.contains("--server-lost-records"), "{said:?}");
    scene
        .node
        .command(&["adopt", "--server-lost-records"])?
        .success()?;
    let mut lightningd = scene.start(4)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()?;
    let now = head(&scene.node)?;
    ensure!(now.epoch > lost.epoch, "{now} after {lost}");
    let status = scene.node.command(&["status"])?;
    ensure!(status.stdout.contains("backstop accept"), "{status:?}");

    // The mirror goes the new way, and is whole again.
    device.catch_up(&[])?.success()?;
    assert_eq!(device.state()?.head, now);
    is_whole(&scene, &device, &kept.path().join("from-the-mirror"))?;
    // Said again where nothing is lost, it changes nothing.
    let said = scene
        .node
        .command(&["adopt", "--server-lost-records"])?
        .failure()?;
    ensure!(
        said.stderr.contains("lost nothing") || said.stderr.contains("without --server-lost-records"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn a_warm_standby_is_handed_over_and_adopted() -> Result<()> {
    let mut scene = Scene::new(33, Journal::Delete)?;
    let shown = scene
        .node
        .command(&["setup", "--server", &scene.proxy.url(), "--show-recovery-key"])?;
    let shown = shown.success()?.stdout;
    let key = shown
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("back"))
        .context("no recovery key")?;
    let kept = tempfile::tempdir()?;
    let secret = kept.path().join("recovery-key");
    std::fs::write(&secret, key)?;
    let device = Device::granted(&scene.node)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let asked = Command::new("sh")
        .arg("-c")
        .arg("exec \"$0\" mirror run --once --standby --secret-fd 3 --dir \"$1\" --grant \"$2\" 3< \"$3\"")
        .arg(backstop_tests::binaries::binary("backstop")?)
        .args([device.dir(), device.ticket(), secret])
        .output()?;
    ensure!(asked.status.success(), "{asked:?}");
    lightningd.pay()?;
    lightningd.stop(0)?;
    // The key was kept: it is not asked for again.
    device.catch_up(&[])?.success()?;
    let to = kept.path().join("lightning");
    let to_text = to.to_str().context("a path")?;
    let said = device.mirror(&["hand-over"], &["--to", to_text])?.success()?;
    ensure!(
        said.stdout.contains("backstop adopt") || said.stdout.contains("adopt --lightning-dir"),
        "{said:?}"
    );
    let database = restored_database(&to, scene.node.network());
    scene.oracle.check(&database)?;
    device.mirror(&["hand-over"], &["--to", to_text])?.failure()?;

    let there = scene.node.at(&to)?;
    there.setup(&scene.proxy.url())?;
    there.command(&["adopt"])?.success()?;
    ensure!(scene.start(2).is_err(), "the machine that was taken over started");
    scene.node = there;
    let mut lightningd = scene.start(3)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}

#[test]
fn a_receipt_is_kept_and_checked_without_any_server() -> Result<()> {
    let mut scene = Scene::new(34, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let said = scene.node.command(&["receipt"])?.success()?;
    let file = said
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("Kept      "))
        .context("no file")?
        .to_owned();
    lightningd.stop(0)?;
    scene.server.kill()?;
    let good = scene.node.command(&["receipt", "--check", &file])?.success()?;
    ensure!(good.stdout.contains("Good"), "{good:?}");
    let text = std::fs::read_to_string(&file)?;
    let seq = serde_json::from_str::<Value>(&text)?
        .pointer("/receipt/head/seq")
        .and_then(Value::as_u64)
        .context("no seq")?;
    std::fs::write(
        &file,
        text.replace(&format!("\"seq\": {seq}"), &format!("\"seq\": {}", seq + 1)),
    )?;
    let bad = scene.node.command(&["receipt", "--check", &file])?.failure()?;
    ensure!(bad.stderr.contains("signature"), "{bad:?}");
    std::fs::write(&file, text)?;
    let other = "11".repeat(32);
    let other = scene
        .node
        .command(&["receipt", "--check", &file, "--server-key", &other])?
        .failure()?;
    ensure!(other.stderr.contains("none of this node's"), "{other:?}");
    Ok(())
}
