//! A node's directory and what a person types about it.

use crate::{binaries, disk};
use anyhow::{Context, Result, ensure};
use backstop_protocol::{
    hash::hkdf_sha256,
    id::{Network, NodeId},
};
use secp256k1::{PublicKey, SecretKey};
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use tempfile::TempDir;

/// A lightning-dir with an `hsm_secret`.
pub struct Node {
    directory: PathBuf,
    /// Removed when dropped; nothing where somebody else removes it.
    _own: Option<TempDir>,
    network: Network,
    secret: [u8; 32],
}

impl Node {
    /// A new node on regtest whose 32-byte secret follows from `seed`.
    pub fn new(seed: u64) -> Result<Self> {
        let mut secret = [0x5a; 32];
        secret
            .get_mut(..8)
            .context("32 bytes")?
            .copy_from_slice(&seed.to_be_bytes());
        let own = tempfile::tempdir()?;
        let node = Self {
            directory: own.path().to_owned(),
            _own: Some(own),
            network: Network::Regtest,
            secret,
        };
        std::fs::create_dir(node.network_dir())?;
        std::fs::write(node.hsm_secret(), node.secret)?;
        std::fs::set_permissions(node.hsm_secret(), std::fs::Permissions::from_mode(0o600))?;
        Ok(node)
    }

    /// The same node in another lightning-dir, as a restore made it. Its secret is put there by hand, unless it came
    /// with the restore.
    pub fn at(&self, lightning_dir: &Path) -> Result<Self> {
        let node = Self {
            directory: lightning_dir.to_owned(),
            _own: None,
            network: self.network,
            secret: self.secret,
        };
        if !node.hsm_secret().exists() {
            std::fs::write(node.hsm_secret(), node.secret)?;
        }
        Ok(node)
    }

    /// A copy of its whole lightning-dir under another name, as somebody makes one by hand.
    pub fn copied(&self, to: &Path) -> Result<Self> {
        disk::copy_directory(&self.directory, to)?;
        self.at(to)
    }

    /// The same as a clone of the whole disk: even its inodes are those of the original.
    pub fn cloned(&self, to: &Path) -> Result<Self> {
        let clone = self.copied(to)?;
        let runs = clone.network_dir().join("backstop/runs");
        let mut content: serde_json::Value = serde_json::from_slice(&std::fs::read(&runs)?)?;
        let place = content.pointer_mut("/place/inode").context("no inode")?;
        *place = std::fs::metadata(&runs)?.ino().into();
        std::fs::write(&runs, serde_json::to_vec(&content)?)?;
        Ok(clone)
    }

    /// `<lightning-dir>`.
    pub fn lightning_dir(&self) -> &Path {
        &self.directory
    }

    /// `<lightning-dir>/<network>`, the plugin's working directory.
    pub fn network_dir(&self) -> PathBuf {
        self.lightning_dir().join(self.network.as_str())
    }

    /// Its network.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.network_dir().join("lightningd.sqlite3")
    }

    /// The secret's file.
    pub fn hsm_secret(&self) -> PathBuf {
        self.network_dir().join("hsm_secret")
    }

    /// lightningd's pidfile.
    pub fn pidfile(&self) -> PathBuf {
        self.lightning_dir()
            .join(format!("lightningd-{}.pid", self.network))
    }

    /// The node's name, derived here by CLN's own formula.
    pub fn node_id(&self) -> Result<NodeId> {
        Ok(NodeId(PublicKey::from_secret_key(&self.key()?).serialize()))
    }

    /// The key behind that name.
    pub fn key(&self) -> Result<SecretKey> {
        let mut key = [0; 32];
        hkdf_sha256(&[0; 4], &self.secret, b"nodeid", &mut key);
        Ok(SecretKey::from_secret_bytes(key)?)
    }

    /// `backstop setup` against a server, which must succeed.
    pub fn setup(&self, server: &str) -> Result<Spoken> {
        self.command(&["setup", "--server", server])?.success()
    }

    /// A subcommand of `backstop` on this directory.
    pub fn command(&self, arguments: &[&str]) -> Result<Spoken> {
        let (first, rest) = arguments.split_first().context("no subcommand")?;
        let directory = self.lightning_dir().to_str().context("a path")?;
        let mut all = vec![
            *first,
            "--lightning-dir",
            directory,
            "--network",
            self.network.as_str(),
        ];
        all.extend_from_slice(rest);
        backstop(&all)
    }

    /// `backstop restore` with this node's secret into another lightning-dir.
    pub fn restore(&self, server: &str, to: &Path) -> Result<Spoken> {
        restore(server, to, self.network, &self.hsm_secret())
    }
}

/// `backstop restore` with the secret in a file.
pub fn restore(server: &str, to: &Path, network: Network, hsm_secret: &Path) -> Result<Spoken> {
    let (to, secret) = (
        to.to_str().context("a path")?,
        hsm_secret.to_str().context("a path")?,
    );
    let network = network.as_str();
    backstop(&[
        "restore",
        "--server",
        server,
        "--to",
        to,
        "--network",
        network,
        "--hsm-secret",
        secret,
    ])
}

/// The database in a restored lightning-dir.
pub fn restored_database(to: &Path, network: Network) -> PathBuf {
    to.join(network.as_str()).join("lightningd.sqlite3")
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Spoken {
    /// Its exit status; nothing where a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Spoken {
    /// Itself, if the program succeeded.
    pub fn success(self) -> Result<Self> {
        ensure!(
            self.status == Some(0),
            "it failed with {:?}\n{}{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Itself, if the program failed in an orderly way: not by a signal or a panic, and with a word on stderr.
    pub fn failure(self) -> Result<Self> {
        let orderly = self.status.is_some_and(|status| status != 0 && status != 101);
        ensure!(
            orderly && !self.stderr.trim().is_empty(),
            "it should have failed with a sentence: {self:?}"
        );
        Ok(self)
    }
}

/// Runs `backstop` with these arguments and no terminal.
pub fn backstop(arguments: &[&str]) -> Result<Spoken> {
    let output = Command::new(binaries::binary("backstop")?)
        .args(arguments)
        .env_remove("LIGHTNINGD_PLUGIN")
        .stdin(Stdio::null())
        .output()?;
    Ok(Spoken {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
