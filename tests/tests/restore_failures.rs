//! A restore that cannot be right says so and leaves nothing behind (I9).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    bench::process::PluginProcess,
    binaries::binary,
    chaos_proxy::{ChaosProxy, Direction, Moment, Step, Weather},
    compare::{Copy, assert_equal},
    node::{Node, Spoken, backstop, restored_database},
    rng::Rng,
    scene::Scene,
    servers::Server,
    wallet::Journal,
    watch::PATIENCE,
};
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A node that has paid and stopped.
fn backed_up(seed: u64, snapshot: bool) -> Result<Scene> {
    let mut scene = Scene::new(seed, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.pay()?;
    // The tail that nobody reports makes the next start upload a snapshot.
    lightningd.stop(u64::from(snapshot))?;
    if snapshot {
        let mut lightningd = scene.start(2)?;
        lightningd.pay()?;
        lightningd.stop(0)?;
    }
    Ok(scene)
}

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

/// It failed with a sentence, and there is no file where it should have restored to, but for what it said that it kept.
fn failed_clean(said: Spoken, to: &Path) -> Result<Spoken> {
    let said = said.failure()?;
    let said_to_be_kept = |path: &Path| {
        let dir = path.parent().map(|dir| dir.display().to_string());
        dir.is_some_and(|dir| said.stderr.contains(&format!("is kept in {dir}:")))
    };
    let left: Vec<_> = names(to)?
        .into_iter()
        .filter(|path| path.is_file() && !said_to_be_kept(path))
        .collect();
    ensure!(left.is_empty(), "{left:?} is left after: {said:?}");
    Ok(said)
}

#[test]
fn an_existing_database_is_never_overwritten() -> Result<()> {
    let scene = backed_up(1, false)?;
    let to = tempfile::tempdir()?;
    let database = restored_database(to.path(), scene.node.network());
    std::fs::create_dir_all(database.parent().context("a parent")?)?;
    std::fs::write(&database, b"precious")?;
    let said = scene.node.restore(&scene.server.url(), to.path())?.failure()?;
    ensure!(said.stderr.contains("lightningd.sqlite3"), "{said:?}");
    assert_eq!(std::fs::read(&database)?, b"precious");
    assert_eq!(names(database.parent().context("a parent")?)?.len(), 1);
    Ok(())
}

#[test]
fn the_secret_of_another_node_opens_nothing() -> Result<()> {
    let scene = backed_up(2, false)?;
    let other = Node::new(3)?;
    let to = tempfile::tempdir()?;
    failed_clean(other.restore(&scene.server.url(), to.path())?, to.path())?;
    Ok(())
}

#[test]
fn a_server_that_is_away_or_is_none_is_named() -> Result<()> {
    let mut scene = backed_up(4, false)?;
    let to = tempfile::tempdir()?;
    scene.server.kill()?;
    let said = failed_clean(scene.node.restore(&scene.server.url(), to.path())?, to.path())?;
    ensure!(said.stderr.contains(scene.server.address()), "{said:?}");
    failed_clean(scene.node.restore("http://127.0.0.1:1", to.path())?, to.path())?;
    failed_clean(scene.node.restore("gopher://nowhere", to.path())?, to.path())?;
    Ok(())
}

#[test]
fn a_secret_is_never_taken_from_the_command_line() -> Result<()> {
    let scene = backed_up(5, false)?;
    let to = tempfile::tempdir()?;
    let path = to.path().to_str().context("a path")?;
    let url = scene.server.url();
    let base = ["restore", "--server", &url, "--to", path, "--network", "regtest"];
    for wrong in [
        &[
            "--mnemonic",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
        ][..],
        &["--recovery-key", "backstop1qqqq"],
        &["--mnemonic"],
        &["--recovery-key"],
        &[],
    ] {
        let arguments: Vec<&str> = base.iter().chain(wrong).copied().collect();
        failed_clean(backstop(&arguments)?, to.path()).with_context(|| format!("{wrong:?}"))?;
    }
    Ok(())
}

#[test]
fn a_connection_cut_at_any_byte_ends_whole_or_not_at_all() -> Result<()> {
    for snapshot in [false, true] {
        let scene = backed_up(6, snapshot)?;
        let whole = scene.restore("whole")?;
        let mut rng = Rng::new(6);
        for _ in 0..12 {
            let way = if rng.one_in(3) {
                Direction::ToServer
            } else {
                Direction::ToClient
            };
            scene.proxy.set(Weather::Cut(
                way,
                rng.below(if way == Direction::ToServer { 4000 } else { 120_000 }),
            ));
            let to = tempfile::tempdir()?;
            let said = scene.node.restore(&scene.proxy.url(), to.path())?;
            if said.status == Some(0) {
                assert_equal(&restored_database(to.path(), scene.node.network()), &whole)?;
            } else {
                failed_clean(said, to.path())?;
            }
        }
    }
    Ok(())
}

/// A node whose database, of noise that is the same each time, fills several packs, and is on the server.
fn large(proxy: &ChaosProxy) -> Result<Node> {
    let node = Node::new(31)?;
    let database = Connection::open(node.database())?;
    database.execute_batch(
        "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;
         CREATE TABLE vars (name TEXT PRIMARY KEY, intval INTEGER, blobval BLOB);
         INSERT INTO vars VALUES ('data_version', 1, NULL);
         CREATE TABLE noise (id INTEGER PRIMARY KEY, bytes BLOB);
         BEGIN;",
    )?;
    let mut rng = Rng::new(31);
    for _ in 0..2600 {
        database.execute("INSERT INTO noise (bytes) VALUES (?1)", [rng.bytes(16_000)])?;
    }
    database.execute_batch("COMMIT")?;
    drop(database);
    node.setup(&proxy.url())?;
    let (mut plugin, _) = PluginProcess::start(&node)?;
    let first = b"UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = 1";
    plugin.db_write(2, &[first.to_vec()])?;
    plugin.stop()?;
    Ok(node)
}

#[test]
fn a_restore_that_was_killed_goes_on_and_fetches_what_it_lacks_alone() -> Result<()> {
    const PACKS: &str = "GET /v1/packs/";
    let server = Server::start()?;
    let proxy = ChaosProxy::start(server.address())?;
    let node = large(&proxy)?;
    let restore = |to: &Path| -> Result<(PathBuf, usize)> {
        let before = proxy.requests(PACKS);
        node.restore(&proxy.url(), to)?.success()?;
        let database = restored_database(to, node.network());
        Ok((database, proxy.requests(PACKS) - before))
    };
    let whole = tempfile::tempdir()?;
    let (whole, all) = restore(&whole.path().join("whole"))?;

    // Packs are fetched in the order of their names, three at once, each from its first chunk on.
    let packs = server.packs()?;
    let at = packs.len() - 1;
    ensure!(at >= 4, "{packs:?}");
    let pack = packs.get(at).and_then(|pack| pack.file_name());
    let pack = pack.and_then(|name| name.to_str()).context("a name")?;
    let request = format!("{PACKS}{pack}?offset=42&").leak();
    proxy.stop_at(Step {
        request,
        moment: Moment::Asked,
    });
    let to = tempfile::tempdir()?;
    let to = to.path().join("cut");
    let mut restoring = Command::new(binary("backstop")?)
        .args([
            "restore",
            "--server",
            &proxy.url(),
            "--network",
            node.network().as_str(),
        ])
        .arg("--hsm-secret")
        .arg(node.hsm_secret())
        .arg("--to")
        .arg(&to)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let stopped = proxy.wait_for_stop(PATIENCE);
    restoring.kill()?;
    restoring.wait()?;
    ensure!(stopped, "no restore came so far");
    proxy.release();

    let (database, rest) = restore(&to)?;
    // Those before it were asked for, and two of them may have been on their way still.
    ensure!(
        rest <= all - (at - 2),
        "{rest} requests after a cut, of {all}: {at} packs came before it"
    );
    assert_equal(&database, &whole).map(drop)
}

/// Every file that the server keeps.
fn server_files(scene: &Scene) -> Result<Vec<PathBuf>> {
    Ok(names(scene.server.data())?
        .into_iter()
        .filter(|path| path.is_file())
        .collect())
}

#[test]
fn a_byte_changed_on_the_server_is_noticed_or_does_not_matter() -> Result<()> {
    for snapshot in [false, true] {
        let mut scene = backed_up(7, snapshot)?;
        let whole = scene.restore("whole")?;
        // In order: a damaged byte in SQLite's write-ahead log cuts the log off there, and what is left is an older state,
        // authentic and whole. A witness or a second server notices that, a restore from this one server cannot.
        scene.server.stop()?;
        let kept: Vec<(PathBuf, Vec<u8>)> = server_files(&scene)?
            .into_iter()
            .map(|path| Ok((path.clone(), std::fs::read(path)?)))
            .collect::<Result<_>>()?;
        let mut rng = Rng::new(7);
        let mut noticed = 0;
        for _ in 0..14 {
            for left in server_files(&scene)? {
                std::fs::remove_file(left)?;
            }
            for (path, bytes) in &kept {
                std::fs::write(path, bytes)?;
            }
            // Sixteen places at once, so that some of them are in what a restore reads.
            for _ in 0..16 {
                let (path, bytes) = rng.pick(&kept).context("the server keeps files")?;
                if !bytes.is_empty() {
                    let mut changed = std::fs::read(path)?;
                    let at = rng.index(changed.len());
                    changed[at] ^= 1 << rng.below(8);
                    std::fs::write(path, changed)?;
                }
            }
            if scene.server.restart().is_err() {
                noticed += 1;
                continue;
            }
            let to = tempfile::tempdir()?;
            let said = scene.node.restore(&scene.server.url(), to.path())?;
            scene.server.kill()?;
            if said.status == Some(0) {
                assert_equal(&restored_database(to.path(), scene.node.network()), &whole)?;
            } else {
                failed_clean(said, to.path())?;
                noticed += 1;
            }
        }
        ensure!(noticed > 0, "nothing was ever noticed");
    }
    Ok(())
}

#[test]
fn a_full_disk_leaves_no_half_file() -> Result<()> {
    let scene = backed_up(8, true)?;
    let to = tempfile::tempdir()?;
    // A limit on the size of files fails writes as a full disk does, without a disk.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\""])
        .arg(binary("backstop")?)
        .args([
            "restore",
            "--server",
            &scene.server.url(),
            "--network",
            "regtest",
            "--to",
        ])
        .arg(to.path())
        .arg("--hsm-secret")
        .arg(scene.node.hsm_secret())
        .stdin(Stdio::null())
        .output()?;
    let said = Spoken {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    failed_clean(said, to.path())?;
    Ok(())
}

#[test]
fn what_is_restored_says_what_it_is() -> Result<()> {
    let scene = backed_up(9, true)?;
    let said = scene.try_restore("one")?.success()?;
    ensure!(
        said.stdout.contains(&scene.oracle.version().to_string()),
        "{said:?}"
    );
    // A restore takes the node over; a second one in another place is the same again.
    let again = scene.restore("two")?;
    scene.oracle.check(&again)?;
    let copy = Copy::open(&again)?;
    let broken: i64 =
        copy.connection
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
                row.get(0)
            })?;
    assert_eq!(broken, 0);
    Ok(())
}

#[test]
fn after_a_restore_the_old_directory_is_refused_and_the_new_one_goes_on() -> Result<()> {
    let mut scene = backed_up(10, false)?;
    let to = tempfile::tempdir()?;
    scene.node.restore(&scene.server.url(), to.path())?.success()?;
    for start in 0..2 {
        let refused = scene.start(20 + start).err().context("the old machine went on")?;
        ensure!(refused.to_string().contains("took this node over"), "{refused}");
    }
    let mut new = scene.node.at(to.path())?;
    std::mem::swap(&mut scene.node, &mut new);
    let mut lightningd = scene.start(30)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}
