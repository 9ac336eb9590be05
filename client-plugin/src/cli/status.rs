//! `backstop status`: is this node protected, since when, and what is there to do?

mod server;
mod spool;

use super::{
    Here, NodeArgs,
    account::{age, proof},
    paint::{Paint, Tone},
    room,
    wait::wait,
};
use crate::{
    cln::{
        NodeDir, Rpc,
        locate::Wallet,
        pidfile::{self, Holder},
    },
    directory::{Directory, LockError, OutagePolicy, ServerConfig},
    node::{Ambient, Node},
    plugin::{Seen, Utc, look, unprotected},
    quorum::{Answer, newest},
    remote::RemoteError,
};
use backstop_protocol::{
    api::AccountState,
    clock::UnixMillis,
    head::Head,
    id::{Network, NodeId},
};
use serde::Serialize;
use server::ServerStatus;
use spool::SpoolStatus;
use std::{io::Write, process::ExitCode};

/// The node is not protected, or it could not be found out.
const NOT_PROTECTED: u8 = 1;

/// What `--json` prints; members are added, never changed.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// Whether every commit of this node is backed up as things stand.
    protected: bool,
    /// Since when every commit of the lightningd that runs is, by the servers' clocks; `null` where that is not so or not known.
    since: Option<UnixMillis>,
    /// Whether `setup` has been here.
    set_up: bool,
    node: Option<NodeId>,
    network: Network,
    /// Whether lightningd runs; absent where it could not be found out.
    lightningd_running: Option<bool>,
    /// Whether the plugin's process holds its lock.
    plugin_running: bool,
    /// The head that this directory last saw acknowledged.
    witness: Option<Head>,
    /// The same as `restore --expect` takes it on another machine.
    expect: Option<String>,
    pub(super) servers: Vec<ServerStatus>,
    /// What the node does while too few servers answer; absent where that is not known.
    outage: Option<OutagePolicy>,
    /// What is on this machine's disk alone; absent where all of it is at the servers.
    spool: Option<SpoolStatus>,
    /// How many servers must hold each update.
    needed: usize,
    /// What is wrong, each with what to do, the worst first.
    pub(super) problems: Vec<String>,
    /// What is wrong with servers that the node can do without for now.
    pub(super) remarks: Vec<String>,
}

/// Show whether a node is protected, since when, and what to do where it is not.
///
/// Exit code: 0 protected, 1 not protected or not known.
#[derive(clap::Args)]
#[command(after_help = "Examples:

  backstop status --network bitcoin
  backstop status --network bitcoin --json | jq .protected")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Prints the status.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<ExitCode> {
    let files = args.node.find(here)?;
    let now = ambient.clock.now();
    let status = wait(async { Ok(Status::collect(&files, ambient).await) })?;
    let text = if args.json {
        serde_json::to_string_pretty(&status)?
    } else {
        status.report(now, Paint::of_stdout())
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if status.protected {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_PROTECTED)
    })
}

impl Status {
    /// Looks at everything; what is wrong is among the problems.
    pub(super) async fn collect(files: &NodeDir, ambient: Ambient) -> Self {
        let directory = Directory::in_network_dir(&files.net());
        let mut status = Self {
            protected: false,
            since: None,
            set_up: directory.exists(),
            node: None,
            network: files.network(),
            lightningd_running: pidfile::holder(files.pidfile())
                .ok()
                .map(|holder| holder != Holder::Nobody),
            plugin_running: false,
            witness: None,
            expect: None,
            servers: Vec::new(),
            outage: None,
            spool: None,
            needed: 1,
            problems: Vec::new(),
            remarks: Vec::new(),
        };
        if *files.wallet() == Wallet::Postgres {
            status.problem(
                "This node keeps its database in PostgreSQL, for which lightningd tells no plugin what it writes. Use \
                 PostgreSQL's own synchronous replication, or SQLite.",
            );
        }
        if !status.set_up {
            status.problem(format!(
                "No backup is set up. Type: backstop setup --lightning-dir {} --network {} --server URL",
                files.base().display(),
                files.network()
            ));
            return status;
        }
        // A lock that can be had is let go at once: nobody holds it.
        status.plugin_running = matches!(directory.lock(), Err(LockError::Held));
        match Node::load(&files.net(), ambient) {
            Ok(node) => status.look_at(&node).await,
            Err(error) => status.problem(error.to_string()),
        }
        status.look_at_lightningd(files);
        status.protected = status.problems.is_empty();
        status.since = status.protected_since();
        status
    }

    async fn look_at(&mut self, node: &Node) {
        self.node = Some(node.config.node);
        self.needed = node.config.rule().needed;
        match node.directory.witness() {
            Ok(witness) => {
                self.witness = witness.map(|witness| witness.head);
                self.expect = self.witness.map(|head| head.to_string());
            }
            Err(error) => self.problem(error.to_string()),
        }
        match node.directory.pending() {
            Ok(None) => {}
            Ok(Some(pending)) => self.problem(format!(
                "A change of this node's servers was begun and not completed; until it is, lightningd does not start. Type: {}",
                pending.typed
            )),
            Err(error) => self.problem(error.to_string()),
        }
        if let Ok(Some(runs)) = node.directory.runs()
            && node.directory.is_copied(&runs).unwrap_or(false)
        {
            self.problem(
                "This directory is a copy of the one that is backed up: it must not be started as it is.",
            );
        }
        self.outage = Some(node.config.outage.policy);
        match SpoolStatus::of(node) {
            Ok(None) => {}
            Ok(Some(spool)) => {
                self.problem(spool.problem());
                self.spool = Some(spool);
            }
            Err(error) => self.problem(error.to_string()),
        }
        let rule = node.config.rule();
        let looked = look_at(node).await;
        let heads = looked.iter().filter_map(|(_, looked)| looked.as_ref().ok());
        let newest = newest(heads.map(|(account, _)| account).enumerate()).map(|(_, account)| account.head);
        // Where enough servers are as they should be, the others are no reason to worry about the node.
        let mut sound = 0;
        let mut problems = Vec::new();
        for (server, looked) in looked {
            let (found, wrong) = ServerStatus::of(&server, looked, newest);
            sound += usize::from(wrong.is_empty());
            problems.extend(wrong);
            self.servers.push(found);
        }
        if sound >= rule.needed {
            self.remarks.extend(problems);
        } else {
            self.problems.extend(problems);
        }
    }

    fn look_at_lightningd(&mut self, files: &NodeDir) {
        match self.lightningd_running {
            Some(true) if self.plugin_running => match unprotected(&Rpc::new(files.rpc())) {
                Ok(found) => found.into_iter().for_each(|problem| self.problem(problem)),
                Err(error) => self.problem(format!("Whether the plugin is marked important is not known: {error}")),
            },
            Some(true) => self.problem(
                "lightningd runs without the plugin: nothing is backed up. Put the important-plugin line that setup \
                 printed into its config file and restart it.",
            ),
            Some(false) => {}
            None => self.problem("Whether lightningd runs could not be found out: run this as the user that runs it."),
        }
    }

    /// When enough servers had let the present writer in. From then on it waited for them at each commit, unless it may spool.
    fn protected_since(&self) -> Option<UnixMillis> {
        if !self.protected || !self.plugin_running || self.outage != Some(OutagePolicy::Stall) {
            return None;
        }
        let accounts = self.servers.iter().filter_map(|server| server.account.as_ref());
        let mut opened: Vec<_> = accounts.filter_map(|account| account.writer_since).collect();
        opened.sort_unstable();
        opened.get(self.needed.checked_sub(1)?).copied()
    }

    /// When a server last got a commit of this node.
    fn last_received(&self) -> Option<UnixMillis> {
        let accounts = self.servers.iter().filter_map(|server| server.account.as_ref());
        accounts.filter_map(|account| account.head_received_at).max()
    }

    fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(message.into());
    }

    fn report(&self, now: UnixMillis, paint: Paint) -> String {
        let mut lines = Vec::new();
        lines.push(match (self.protected, self.lightningd_running) {
            (true, Some(true)) => format!(
                "{}: every commit is backed up before lightningd makes it{}.",
                paint.say(Tone::Good, "PROTECTED"),
                self.since
                    .map_or_else(String::new, |since| format!(", since {}", Utc(since)))
            ),
            (true, _) => format!(
                "{}: lightningd is not running; the backup is complete up to its last commit.",
                paint.say(Tone::Good, "PROTECTED")
            ),
            (false, _) => format!(
                "{}{}",
                paint.say(Tone::Bad, "NOT PROTECTED"),
                self.last_received().map_or_else(String::new, |at| format!(
                    ": the last commit that was backed up is of {}",
                    Utc(at)
                ))
            ),
        });
        let list = |tone, mark: &str, says: &String| format!("  {} {says}", paint.say(tone, mark));
        lines.extend(self.problems.iter().map(|says| list(Tone::Bad, "!", says)));
        lines.extend(self.remarks.iter().map(|says| list(Tone::Careful, "-", says)));
        if let Some(node) = self.node {
            lines.push(format!("node       {node} on {}", self.network));
        }
        let running = |running| if running { "running" } else { "not running" };
        lines.push(format!(
            "lightningd {}, plugin {}",
            self.lightningd_running.map_or("unknown", running),
            running(self.plugin_running)
        ));
        if let [_, _, ..] = self.servers.as_slice() {
            lines.push(format!(
                "servers    {}, of which {} must hold each update",
                self.servers.len(),
                self.needed
            ));
        }
        if let Some(expect) = &self.expect {
            lines.push(format!("witness    {expect}"));
        }
        lines.extend(self.spool.as_ref().map(SpoolStatus::line));
        for server in &self.servers {
            lines.push(format!("server     {}", server.url));
            if let Some(account) = &server.account {
                lines.push(format!(
                    "  record   {} of epoch {}, {}",
                    account.head.seq,
                    account.head.epoch,
                    age(account)
                ));
                lines.push(match &account.snapshot {
                    Some(snapshot) => format!(
                        "  snapshot after record {}, {} bytes; log {} bytes",
                        snapshot.base_seq, snapshot.bytes, account.log_bytes
                    ),
                    None => format!(
                        "  log      {} bytes, from the node's first commit",
                        account.log_bytes
                    ),
                });
                lines.extend(account.quota.as_ref().map(room::room));
                lines.push(proof(account));
                let skew = account.time.0.abs_diff(now.0) / 1000;
                if skew > 60 {
                    lines.push(format!(
                        "  clock    {skew} s apart from this machine's; nothing depends on it"
                    ));
                }
            }
            if let Some(error) = &server.error {
                lines.push(format!("  no answer: {error}"));
            }
        }
        lines.join("\n")
    }
}

/// What each server says, in the order of the configuration.
async fn look_at(node: &Node) -> Vec<(ServerConfig, Result<(AccountState, Seen), RemoteError>)> {
    let mut looked = Vec::new();
    for (server, Answer { opened, .. }) in node.config.servers.iter().zip(node.open_readers().await) {
        let seen = match opened {
            Ok((session, account)) => look(node, &session, &account).await.map(|seen| (account, seen)),
            Err(error) => Err(error),
        };
        looked.push((server.clone(), seen));
    }
    looked
}
