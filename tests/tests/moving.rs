//! A server moves house while its node writes: from SQLite and a directory to PostgreSQL and object storage.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers that start databases and storage fail as a test does"
)]

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    cluster::Cluster,
    scene::{ROLL_UP_OFTEN, Scene},
    servers::Server,
    wallet::Journal,
    watch::pay_until,
};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use storage::{KEY_ID, SECRET, Storage};

#[path = "../../server/tests/http/support/storage.rs"]
mod storage;

/// Where everything goes.
struct Move {
    from: PathBuf,
    to: tempfile::TempDir,
    database: String,
    packs: String,
    endpoint: String,
}

impl Move {
    fn of(server: &Server) -> Result<Self> {
        let (cluster, storage) = (Cluster::shared(), Storage::shared());
        Ok(Self {
            from: server.data().to_owned(),
            to: tempfile::tempdir()?,
            database: cluster.url(&cluster.database()),
            packs: format!("s3://{}/moved", storage.bucket()),
            endpoint: storage.endpoint.clone(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("backstop-server")?);
        command.arg("copy").arg("--data").arg(&self.from);
        command.arg("--to-data").arg(self.to.path());
        command.args(["--to-database", &self.database, "--to-packs", &self.packs]);
        command.args(["--to-packs-endpoint", &self.endpoint]);
        command.args(arguments).envs(Self::keys());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    fn keys() -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", SECRET)]
    }

    /// Copies, and wants it to end well; what it reports.
    fn copy(&self, arguments: &[&str]) -> Result<Value> {
        let done = self.command(arguments)?.arg("--json").output()?;
        ensure!(done.status.success(), "{done:?}");
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    /// Copies slowly, and is killed once something was copied.
    fn is_killed_on_the_way(&self) -> Result<()> {
        let mut child = self.command(&["--rate", "1KiB"])?.spawn()?;
        let mut said = BufReader::new(child.stderr.take().context("stderr")?).lines();
        let first = said.next().context("it said nothing")??;
        ensure!(first.contains("copied so far"), "{first}");
        child.kill()?;
        ensure!(!child.wait()?.success(), "it ended by itself");
        Ok(())
    }

    /// What the new server is told.
    fn arguments(&self) -> Vec<&str> {
        let mut arguments = ROLL_UP_OFTEN.to_vec();
        arguments.extend(["--database", &self.database, "--packs", &self.packs]);
        arguments.extend(["--packs-endpoint", &self.endpoint]);
        arguments
    }
}

/// Tries to start a server somewhere.
fn try_serve(data: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("backstop-server")?);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    Ok(command.args(arguments).envs(Move::keys()).output()?)
}

fn is_refused(done: &Output, why: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(!done.status.success() && said.contains(why), "{said}");
    Ok(())
}

#[test]
fn a_server_moves_to_postgresql_and_object_storage_while_its_node_writes_and_the_node_goes_on() -> Result<()>
{
    let mut scene = Scene::with(31, Journal::Delete, ROLL_UP_OFTEN)?;
    let mut lightningd = scene.start(1)?;
    let server = &scene.server;
    pay_until(&mut lightningd, "a snapshot", |_| {
        server.newest_base().ok().flatten().is_some()
    })?;
    let moving = Move::of(server)?;
    moving.is_killed_on_the_way()?;
    lightningd.pay()?;
    // Not whole yet, it is served by nobody, although the identity is there already.
    is_refused(
        &try_serve(moving.to.path(), &moving.arguments())?,
        "not whole yet",
    )?;
    let report = moving.copy(&[])?;
    ensure!(
        report.pointer("/packs").and_then(Value::as_u64) > Some(0),
        "{report}"
    );
    ensure!(
        report.pointer("/scrub/faults") == Some(&Value::Array(vec![])),
        "{report}"
    );
    lightningd.pay()?;
    let report = moving.copy(&["--finish"])?;
    ensure!(
        report.pointer("/finished") == Some(&Value::Bool(true)),
        "{report}"
    );

    // The old server still runs, and takes nothing: the node waits until the new one is there.
    scene
        .server
        .give_way_to(moving.to.path(), &moving.arguments(), &Move::keys())?;
    is_refused(&try_serve(&moving.from, &[])?, "was moved")?;
    for _ in 0..9 {
        lightningd.pay()?;
    }
    let (status, says) = lightningd.stop(0)?;
    ensure!(status == 0, "the plugin ended with {status}\n{says}");
    scene.check()?;
    let scrub = Command::new(binary("backstop-server")?)
        .args(["scrub", "--data"])
        .arg(moving.to.path())
        .args(["--database", &moving.database, "--packs", &moving.packs])
        .args(["--packs-endpoint", &moving.endpoint])
        .envs(Move::keys())
        .output()?;
    ensure!(scrub.status.success(), "{scrub:?}");
    Ok(())
}
