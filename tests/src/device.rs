//! Another device of a node's owner, on which `backstop mirror` runs.

use crate::{
    binaries,
    node::{Node, Spoken, backstop},
    signer::Signer,
};
use anyhow::{Context, Result, ensure};
use backstop::mirror::{Mirror, State};
use backstop_protocol::head::Head;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a mirror may take to come up with a server.
const PATIENCE: Duration = Duration::from_mins(1);

/// A device with a mirror's directory.
pub struct Device {
    own: TempDir,
}

/// A mirror that runs; killed when dropped.
pub struct Running {
    child: Child,
}

impl Device {
    /// One to which a node gave a grant to read, signed over its socket.
    pub fn granted(node: &Node) -> Result<Self> {
        let device = Self {
            own: tempfile::tempdir()?,
        };
        device.grant(node, "365d")?;
        Ok(device)
    }

    /// Gives it another grant.
    pub fn grant(&self, node: &Node, expires: &str) -> Result<()> {
        let _signer = Signer::of(node)?;
        let key = self.key()?;
        let given = node
            .command(&["grant", "--scope", "read", "--expires", expires, "--key", &key])?
            .success()?;
        std::fs::write(self.ticket(), given.stdout)?;
        Ok(())
    }

    /// Its access key.
    pub fn key(&self) -> Result<String> {
        let said = self.mirror(&["key"], &[])?.success()?;
        Ok(said.stdout.trim().to_owned())
    }

    /// The mirror's directory.
    pub fn dir(&self) -> PathBuf {
        self.own.path().join("mirror")
    }

    /// What the node printed for it.
    pub fn ticket(&self) -> PathBuf {
        self.own.path().join("mirror.grant")
    }

    /// A subcommand of `backstop mirror` with this directory.
    pub fn mirror(&self, command: &[&str], more: &[&str]) -> Result<Spoken> {
        let dir = self.dir();
        let dir = dir.to_str().context("a path")?;
        backstop(&[&["mirror"], command, &["--dir", dir], more].concat())
    }

    /// Catches up once.
    pub fn catch_up(&self, more: &[&str]) -> Result<Spoken> {
        let ticket = self.ticket();
        let ticket = ticket.to_str().context("a path")?;
        self.mirror(&["run", "--once", "--grant", ticket], more)
    }

    /// Runs on until it is killed.
    pub fn run(&self) -> Result<Running> {
        let child = Command::new(binaries::binary("backstop")?)
            .args(["mirror", "run", "--dir"])
            .arg(self.dir())
            .arg("--grant")
            .arg(self.ticket())
            .env_remove("LIGHTNINGD_PLUGIN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Running { child })
    }

    /// How far the mirror is.
    pub fn state(&self) -> Result<State> {
        Ok(Mirror::open(&self.dir())?.state()?)
    }

    /// Waits until the mirror that runs holds this.
    pub fn reaches(&self, head: Head) -> Result<()> {
        let begun = Instant::now();
        loop {
            // Before its first steps there is nothing to be opened.
            let state = self.state();
            if state.as_ref().is_ok_and(|state| state.head == head) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "the mirror does not come to {head}: {state:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `backstop restore --mirror` with the node's secret.
    pub fn restore(&self, node: &Node, to: &Path, more: &[&str]) -> Result<Spoken> {
        let (dir, secret) = (self.dir(), node.hsm_secret());
        let fixed = [
            "restore",
            "--mirror",
            dir.to_str().context("a path")?,
            "--to",
            to.to_str().context("a path")?,
            "--network",
            node.network().as_str(),
            "--hsm-secret",
            secret.to_str().context("a path")?,
        ];
        backstop(&[&fixed, more].concat())
    }
}

impl Running {
    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
