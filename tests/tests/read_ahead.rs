//! The first start of a node that has a database already is short: `setup` sends the database ahead (design 5).

use anyhow::{Result, ensure};
use backstop::directory::Directory;
use backstop_protocol::id::RunId;
use backstop_tests::{node::restored_database, scene::Scene, servers::Server, wallet::Journal, watch::stop};

/// A node with some megabytes of database that no server knows.
fn existing() -> Result<Scene> {
    let mut scene = Scene::new(2, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.write_large(2_000_000)?;
    lightningd.pay()?;
    stop(lightningd)?;
    forget(&scene, "first")?;
    Ok(scene)
}

/// What setup tells an operator to do who wants to start over.
fn forget(scene: &Scene, time: &str) -> Result<()> {
    let directory = scene.node.network_dir().join("backstop");
    Ok(backstop::durable::rename(
        &directory,
        &directory.with_extension(time),
    )?)
}

#[test]
fn the_first_start_sends_what_changed_since_setup_and_no_more() -> Result<()> {
    let mut scene = existing()?;
    let server = Server::start()?;
    let said = scene.node.setup(&server.url())?;
    ensure!(said.stdout.contains("sent ahead"), "{}", said.stdout);
    let ahead = server.bytes_of_packs()?;
    ensure!(ahead > 500_000, "{ahead}");
    // Whoever starts over before the node ever wrote is refused nothing, and sends nothing twice.
    forget(&scene, "second")?;
    scene.node.setup(&server.url())?;
    assert_eq!(server.bytes_of_packs()?, ahead);
    ensure!(
        server.newest_base()?.is_none(),
        "what was sent ahead is no backup yet"
    );

    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    stop(lightningd)?;
    let sent = server.bytes_of_packs()? - ahead;
    ensure!(
        server.newest_base()?.is_some() && sent < ahead / 5,
        "{sent} after {ahead}"
    );
    let to = tempfile::tempdir()?;
    scene.node.restore(&server.url(), to.path())?.success()?;
    let restored = restored_database(to.path(), scene.node.network());
    scene.oracle.check(&restored).map(drop)
}

#[test]
fn who_wants_no_upload_at_setup_gets_none() -> Result<()> {
    let scene = existing()?;
    let server = Server::start()?;
    let arguments = ["setup", "--server", &server.url(), "--no-upload"];
    let said = scene.node.command(&arguments)?.success()?;
    ensure!(!said.stdout.contains("sent ahead"), "{}", said.stdout);
    assert_eq!(server.bytes_of_packs()?, 0);
    Ok(())
}

#[test]
fn where_the_plugin_is_or_was_at_work_setup_claims_nothing() -> Result<()> {
    let scene = existing()?;
    let server = Server::start()?;
    scene
        .node
        .command(&["setup", "--server", &server.url(), "--no-upload"])?
        .success()?;
    let directory = Directory::in_network_dir(&scene.node.network_dir());
    let lock = directory.lock()?;
    scene.node.setup(&server.url())?;
    assert_eq!(server.bytes_of_packs()?, 0);
    drop(lock);
    directory.begin_run(RunId([7; 16]))?;
    scene.node.setup(&server.url())?;
    assert_eq!(server.bytes_of_packs()?, 0);
    Ok(())
}

#[test]
fn a_server_without_room_for_the_database_is_found_out_at_setup() -> Result<()> {
    let scene = existing()?;
    let small = Server::start_with(&["--quota", "200KiB"])?;
    let said = scene
        .node
        .command(&["setup", "--server", &small.url()])?
        .failure()?;
    ensure!(said.stdout.contains("has room for"), "{said:?}");
    ensure!(
        said.stderr.contains("do not start lightningd") && said.stderr.contains("node quota NODE SIZE"),
        "{said:?}"
    );
    forget(&scene, "second")?;
    let large = Server::start_with(&["--quota", "1GiB"])?;
    let said = scene.node.setup(&large.url())?;
    ensure!(
        said.stdout.contains("sent ahead") && !said.stdout.contains("has room for"),
        "{said:?}"
    );
    Ok(())
}
