//! A whole scene: a node with its backup, a server, the network between them, and a memory of what happened.

use crate::{
    binaries,
    chaos_proxy::ChaosProxy,
    lightningd::{FailedStart, Lightningd, Options},
    node::{Node, Spoken, restored_database},
    oracle::Oracle,
    plugin::Program,
    servers::Server,
    wallet::Journal,
};
use anyhow::{Context, Result};
use std::path::PathBuf;
use tempfile::TempDir;

/// Makes a server ask for a roll-up every few batches.
pub const ROLL_UP_OFTEN: &[&str] = &["--roll-up-records", "7"];

/// One node, one server, the network between them.
pub struct Scene {
    /// The server.
    pub server: Server,
    /// What the node knows as its server.
    pub proxy: ChaosProxy,
    /// The node.
    pub node: Node,
    /// How its lightningd starts.
    pub options: Options,
    /// What it acted on.
    pub oracle: Oracle,
    restored: TempDir,
}

impl Scene {
    /// A node set up against a server of its own, both new. For a write-ahead log it has lived once before. Every
    /// second seed's server asks for a roll-up every few batches, so that whatever happens may happen during one.
    pub fn new(seed: u64, journal: Journal) -> Result<Self> {
        let arguments: &[&str] = if seed % 2 == 1 { ROLL_UP_OFTEN } else { &[] };
        Self::with(seed, journal, arguments)
    }

    /// The same with a server that is told more.
    pub fn with(seed: u64, journal: Journal, server: &[&str]) -> Result<Self> {
        Self::on(Server::start_with(server)?, seed, journal)
    }

    /// The same with a server that runs.
    pub fn on(server: Server, seed: u64, journal: Journal) -> Result<Self> {
        let proxy = ChaosProxy::start(server.address())?;
        let node = Node::new(seed)?;
        node.setup(&proxy.url())?;
        let oracle = Oracle::default();
        let mut options = Options::new(Program::new(binaries::binary("backstop")?), seed);
        options.wallet.journal = journal;
        options.wallet.keep_states = 12;
        options.oracle = Some(oracle.clone());
        let mut scene = Self {
            server,
            proxy,
            node,
            options,
            oracle,
            restored: tempfile::tempdir()?,
        };
        if journal == Journal::Wal {
            scene.start(seed)?.stop(0)?;
        }
        Ok(scene)
    }

    /// Starts lightningd with this seed for what it will do.
    pub fn start(&mut self, seed: u64) -> Result<Lightningd, Box<FailedStart>> {
        self.options.seed = seed;
        Lightningd::start(&self.node, &self.options)
    }

    /// Starts lightningd as a supervisor does: a start that is refused is tried once more.
    pub fn start_or_restart(&mut self, seed: u64) -> Result<Lightningd> {
        let first = match self.start(seed) {
            Ok(lightningd) => return Ok(lightningd),
            Err(first) => first,
        };
        self.start(seed)
            .with_context(|| format!("the second start, after {first}"))
    }

    /// A life in which no backup listens: it ends in order.
    pub fn live_without_backup(&mut self, seed: u64) -> Result<()> {
        let mut yes = Program::new(binaries::binary("yes-plugin")?);
        let heard = self.node.lightning_dir().join("heard");
        yes.variables
            .push(("YES_PLUGIN_LOG".to_owned(), heard.display().to_string()));
        let backstop = std::mem::replace(&mut self.options.program, yes);
        let lived = self
            .start(seed)
            .map_err(anyhow::Error::from)
            .and_then(|mut life| {
                life.pay()?;
                Ok(life.stop(0)?)
            });
        self.options.program = backstop;
        lived.map(|_| ())
    }

    /// Restores from the secret alone into an empty directory; the database there.
    pub fn restore(&self, name: &str) -> Result<PathBuf> {
        let to = self.restored.path().join(name);
        self.try_restore(name)?.success()?;
        Ok(restored_database(&to, self.node.network()))
    }

    /// Tries the same.
    pub fn try_restore(&self, name: &str) -> Result<Spoken> {
        self.node
            .restore(&self.server.url(), &self.restored.path().join(name))
    }

    /// After lightningd has stopped: the live database and a restored one both hold exactly what was acted on.
    pub fn check(&self) -> Result<()> {
        self.oracle
            .check(&self.node.database())
            .context("the node's own database")?;
        self.oracle
            .check(&self.restore("checked")?)
            .context("the restored database")?;
        Ok(())
    }
}
