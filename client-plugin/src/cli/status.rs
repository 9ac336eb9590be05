//! `backstop status`: is this node protected, since when, and what is there to do?

mod spool;

use super::{
    Here, NodeArgs,
    account::{age, proof},
    room,
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
use spool::SpoolStatus;
use std::{io::Write, process::ExitCode};

/// The node is not protected, or it could not be found out.
const NOT_PROTECTED: u8 = 1;

/// What `--json` prints; members are added, never changed.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// Whether every commit of this node is backed up as things stand.
    protected: bool,
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

#[derive(Debug, Serialize)]
pub(super) struct ServerStatus {
    pub(super) url: String,
    /// Absent where the server did not answer.
    pub(super) account: Option<AccountState>,
    /// Whether what is there restores by itself: a log from its first record, or from a complete snapshot.
    restorable: bool,
    /// Whether another server holds more.
    behind: bool,
    error: Option<String>,
}

/// Shows whether a node is protected, since when, and what to do where it is not.
///
/// Exit code: 0 protected, 1 not protected or not known.
#[derive(clap::Args)]
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(Status::collect(&files, ambient));
    let text = if args.json {
        serde_json::to_string_pretty(&status)?
    } else {
        status.report(now)
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

    fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(message.into());
    }

    fn report(&self, now: UnixMillis) -> String {
        let mut lines = Vec::new();
        lines.push(match (self.protected, self.lightningd_running) {
            (true, Some(true)) => {
                "PROTECTED: every commit is backed up before lightningd makes it.".to_owned()
            }
            (true, _) => {
                "PROTECTED: lightningd is not running; the backup is complete up to its last commit."
                    .to_owned()
            }
            (false, _) => "NOT PROTECTED".to_owned(),
        });
        lines.extend(self.problems.iter().map(|problem| format!("  ! {problem}")));
        lines.extend(self.remarks.iter().map(|remark| format!("  - {remark}")));
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

impl ServerStatus {
    /// What is known of one server, and what is wrong with it.
    fn of(
        server: &ServerConfig,
        looked: Result<(AccountState, Seen), RemoteError>,
        newest: Option<Head>,
    ) -> (Self, Vec<String>) {
        let mut found = Self {
            url: server.url.clone(),
            account: None,
            restorable: false,
            behind: false,
            error: None,
        };
        let mut wrong = Vec::new();
        match looked {
            Ok((account, seen)) => {
                found.restorable = seen.restorable;
                found.behind = newest.is_some_and(|newest| account.head.cmp_place(&newest).is_lt());
                if found.behind {
                    wrong.push(format!(
                        "{} is behind: its log ends at record {}. The plugin brings it up to date in the background.",
                        server.url, account.head.seq
                    ));
                } else if let Some(halt) = seen.halt {
                    wrong.push(halt);
                }
                if !seen.restorable {
                    wrong.push(format!(
                        "{} has nothing complete to restore from yet. Start lightningd with the plugin: its first batch \
                         sees to it.",
                        server.url
                    ));
                }
                if account.held_since.is_some() {
                    wrong.push(format!(
                        "What the backup gave was found to differ from the node's own database. A snapshot of the node's \
                         database has taken its place or does so at the next start; what was there before is kept on {}. Please \
                         report this; then let it go with: backstop accept",
                        server.url
                    ));
                }
                if let Some(since) = account.restored_since {
                    wrong.push(format!(
                        "{} says since {} that its data were restored from a copy of an earlier time, and takes nothing for \
                         this node until you looked at it: stop lightningd, then type backstop adopt (with \
                         --server-lost-records where that tells you to).",
                        server.url,
                        Utc(since)
                    ));
                }
                wrong.extend(room::wrong_with_room(&server.url, &account));
                found.account = Some(account);
            }
            Err(error) => {
                wrong.push(format!(
                    "{error}. Where too few servers answer, the node waits before each commit, then halts."
                ));
                found.error = Some(error.to_string());
            }
        }
        (found, wrong)
    }
}
