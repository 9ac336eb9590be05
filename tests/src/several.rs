//! A node with several servers, each behind a network of its own.

use crate::{
    binaries,
    chaos_proxy::ChaosProxy,
    lightningd::{FailedStart, Lightningd, Options},
    node::{Node, Spoken, backstop, restored_database},
    oracle::Oracle,
    plugin::Program,
    servers::Server,
};
use anyhow::{Context, Result};
use std::path::PathBuf;
use tempfile::TempDir;

/// One node, several servers.
pub struct Several {
    /// The servers.
    pub servers: Vec<Server>,
    /// What the node knows as its servers.
    pub proxies: Vec<ChaosProxy>,
    /// The node.
    pub node: Node,
    /// How its lightningd starts.
    pub options: Options,
    /// What it acted on.
    pub oracle: Oracle,
    restored: TempDir,
}

impl Several {
    /// A node set up against so many new servers, of which `require` must hold each update.
    pub fn new(seed: u64, count: usize, require: &str, arguments: &[&str]) -> Result<Self> {
        let servers: Vec<Server> = (0..count)
            .map(|_| Server::start_with(arguments))
            .collect::<Result<_>>()?;
        let proxies: Vec<ChaosProxy> = servers
            .iter()
            .map(|server| ChaosProxy::start(server.address()))
            .collect::<Result<_>>()?;
        let node = Node::new(seed)?;
        let urls: Vec<String> = proxies.iter().map(ChaosProxy::url).collect();
        let mut setup = vec!["setup", "--require", require];
        for url in &urls {
            setup.extend(["--server", url]);
        }
        node.command(&setup)?.success()?;
        let oracle = Oracle::default();
        let mut options = Options::new(Program::new(binaries::binary("backstop")?), seed);
        options.wallet.keep_states = 12;
        options.oracle = Some(oracle.clone());
        Ok(Self {
            servers,
            proxies,
            node,
            options,
            oracle,
            restored: tempfile::tempdir()?,
        })
    }

    /// One more server, that the node knows nothing of yet; its URL.
    pub fn another(&mut self, arguments: &[&str]) -> Result<String> {
        let server = Server::start_with(arguments)?;
        let proxy = ChaosProxy::start(server.address())?;
        let url = proxy.url();
        self.servers.push(server);
        self.proxies.push(proxy);
        Ok(url)
    }

    /// The arguments of `backstop server WHAT …` for this node.
    pub fn server_arguments<'a>(&'a self, what: &'a str, more: &[&'a str]) -> Result<Vec<&'a str>> {
        let directory = self.node.lightning_dir().to_str().context("a path")?;
        let network = self.node.network().as_str();
        let mut arguments = vec!["server", what, "--lightning-dir", directory, "--network", network];
        arguments.extend_from_slice(more);
        Ok(arguments)
    }

    /// `backstop server WHAT …` for this node.
    pub fn server(&self, what: &str, more: &[&str]) -> Result<Spoken> {
        backstop(&self.server_arguments(what, more)?)
    }

    /// Starts lightningd.
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

    /// Tries to restore from the secret and the URL of one server, with more arguments.
    pub fn try_restore(&self, from: usize, name: &str, more: &[&str]) -> Result<Spoken> {
        let url = self.proxies.get(from).context("no such server")?.url();
        let to = self.restored.path().join(name);
        let (to, secret) = (
            to.to_str().context("a path")?,
            self.node.hsm_secret().to_str().context("a path")?.to_owned(),
        );
        let network = self.node.network().as_str();
        let mut arguments = vec!["restore", "--server", &url, "--to", to, "--network", network];
        arguments.extend(["--hsm-secret", &secret]);
        arguments.extend_from_slice(more);
        backstop(&arguments)
    }

    /// Where a restore of this name puts its lightning-dir.
    pub fn restored(&self, name: &str) -> PathBuf {
        self.restored.path().join(name)
    }

    /// After lightningd has stopped: the live database holds exactly what was acted on, and so does what comes back from the URL
    /// of this server.
    pub fn check(&self, from: usize, name: &str) -> Result<Spoken> {
        self.oracle
            .check(&self.node.database())
            .context("the node's own database")?;
        let spoken = self.try_restore(from, name, &[])?.success()?;
        let database = restored_database(&self.restored(name), self.node.network());
        self.oracle.check(&database).context("the restored database")?;
        Ok(spoken)
    }
}
