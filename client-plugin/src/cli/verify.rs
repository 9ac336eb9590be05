//! `backstop verify`: is what the server keeps worth anything? A full restore, to nowhere.
//!
//! It reads alone: nobody is fenced off, and the node goes on meanwhile. The head is read once, and exactly that is
//! restored; the witness says what the head must reach at least.

use super::{Here, NodeArgs, bars::Bars, scratch::Scratch, wait::wait_or_stop, when::Stamp};
use crate::{
    directory::Witness,
    files::{self, FileName},
    node::{Ambient, Node},
    remote::Session,
    restore::{self, BackupServer, Counted, Goal, Patient, Request},
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    clock::UnixMillis,
    head::Head,
    id::{Network, NodeId, ServerKey},
    record::record_hash,
};
use serde::Serialize;
use std::{
    cmp::Ordering,
    fs::DirBuilder,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Restore the whole backup to nowhere, with every check that a restore makes.
///
/// It goes into a temporary directory and is thrown away. Nothing is taken over: run it from cron, beside the running node. It needs
/// room for the database.
///
/// Exit code: 0 the backup restores, 1 it does not, or that could not be found out.
#[derive(clap::Args)]
#[command(after_help = "Examples:

  backstop verify --network bitcoin
  backstop verify --network bitcoin --dir /mnt/large
  backstop verify --network bitcoin --keep /tmp/look")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Work in DIR instead of the node's backstop/work.
    #[arg(long, value_name = "DIR", conflicts_with = "keep")]
    dir: Option<PathBuf>,
    /// Keep the database, in DIR, to look at it. Never start a node on it.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints; members are added, never changed. What is not known is `null`.
#[derive(Debug, Serialize)]
struct Drill {
    /// Whether the backup restores, up to what this directory saw acknowledged and beyond.
    restorable: bool,
    /// Why not.
    error: Option<String>,
    node: Option<NodeId>,
    network: Network,
    server: Option<String>,
    /// The head that this directory last saw acknowledged.
    witness: Option<Head>,
    /// The head whose state was restored.
    head: Option<Head>,
    /// When the server received it.
    received_at: Option<UnixMillis>,
    /// CLN's counter in the restored database.
    data_version: Option<u64>,
    /// The snapshot that the restore began with; `null` where it began with the first record.
    snapshot: Option<SnapshotInfo>,
    /// Records that were applied to it.
    records: Option<u64>,
    /// Bytes of records, packs and manifests that were fetched.
    bytes_fetched: u64,
    /// Length of the restored database, bytes.
    database_bytes: Option<u64>,
    elapsed_ms: u64,
    /// Names of the files beside the database that came with it.
    files: Vec<FileName>,
    /// Where the database was kept.
    kept: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<ExitCode> {
    let found = args.node.find(here)?;
    let (clock, began) = (ambient.clock.clone(), ambient.clock.now());
    let mut drill = Drill::on(found.network());
    let done = match Node::load(&found.net(), ambient) {
        Err(error) => Err(error.into()),
        Ok(node) => wait_or_stop(drill.run(&node, args), "stopped; nothing was kept"),
    };
    drill.elapsed_ms = clock.now().millis_since(began);
    drill.restorable = done.is_ok();
    drill.error = done.as_ref().err().map(|error| format!("{error:#}"));
    if args.json {
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&drill)?)?;
    } else if done.is_ok() {
        drill.report(&mut io::stdout().lock())?;
    }
    done.map(|()| ExitCode::SUCCESS)
}

impl Drill {
    fn on(network: Network) -> Self {
        Self {
            restorable: false,
            error: None,
            node: None,
            network,
            server: None,
            witness: None,
            head: None,
            received_at: None,
            data_version: None,
            snapshot: None,
            records: None,
            bytes_fetched: 0,
            database_bytes: None,
            elapsed_ms: 0,
            files: Vec::new(),
            kept: None,
        }
    }

    async fn run(&mut self, node: &Node, args: &Args) -> anyhow::Result<()> {
        self.node = Some(node.config.node);
        // Before the head: what was acknowledged by now must be in it.
        let witness = node.directory.witness()?;
        self.witness = witness.map(|witness| witness.head);
        let (session, account) = node.open_reader().await?;
        self.server = Some(session.url().to_owned());
        ensure!(
            !account.head.is_empty(),
            "{} has no backup of this node: start lightningd, and its first batch makes one",
            session.url()
        );
        self.head = Some(account.head);
        let patient = Patient::new(&session, Patient::<Session>::PAUSES);
        let server = Counted::new(&patient);
        if let Some(witness) = &witness {
            reaches(&server, &account, witness)
                .await
                .with_context(|| format!("{} does not have what was acknowledged here", session.url()))?;
        }
        let restored = self
            .restore(node, &server, (session.server(), account.head), args)
            .await;
        self.bytes_fetched = server.bytes();
        let version = restored?;
        let files = files::fetch(&session, &node.keys.files, None).await;
        let files = files.context("the database restores, but not the files beside it")?;
        self.files = files.map_or_else(Vec::new, |files| {
            files.files.into_iter().map(|file| file.name).collect()
        });
        if let Some(witness) = witness.filter(|witness| witness.head == account.head) {
            ensure!(
                witness.data_version == version,
                "the restored database is at data_version {version}, and this node committed {}",
                witness.data_version
            );
        }
        Ok(())
    }

    /// Restores to where it is kept, or to a directory that goes; returns the version.
    async fn restore(
        &mut self,
        node: &Node,
        server: &impl BackupServer,
        (key, head): (ServerKey, Head),
        args: &Args,
    ) -> anyhow::Result<u64> {
        let (parent, scratch) = match (&args.keep, &args.dir) {
            (Some(keep), _) => {
                private(keep)?;
                (keep.clone(), None)
            }
            (None, dir) => {
                let parent = match dir {
                    Some(dir) => dir.clone(),
                    None => node.directory.work()?,
                };
                let scratch = Scratch::make(&parent)?;
                (scratch.path().to_owned(), Some(scratch))
            }
        };
        let database = parent.join(format!("lightningd-at-record-{}.sqlite3", head.seq));
        let request = Request {
            keys: &node.keys,
            node: node.config.node,
            server: key,
            policy: None,
            goal: Goal::Seen(head),
            until: None,
            database: &database,
        };
        let mut bars = Bars::default();
        let mut show = |step| bars.show(step);
        let restored = restore::restore(server, &request, &*node.ambient.clock, &mut show).await;
        bars.clear();
        let restored = restored?;
        self.received_at = restored.received_at;
        self.data_version = Some(restored.data_version);
        self.snapshot = restored.snapshot;
        self.records = Some(restored.records);
        self.database_bytes = Some(restored.database_len);
        self.kept = scratch.is_none().then_some(restored.database);
        Ok(restored.data_version)
    }

    fn report(&self, out: &mut dyn Write) -> io::Result<()> {
        let number = |value: Option<u64>| value.unwrap_or_default();
        writeln!(out, "RESTORABLE: the whole backup was restored and checked.")?;
        if let Some(head) = self.head {
            let received = self
                .received_at
                .map_or_else(String::new, |at| format!(", received {}", Stamp(at)));
            writeln!(
                out,
                "record    {} of epoch {}, data_version {}{received}",
                head.seq,
                head.epoch,
                number(self.data_version)
            )?;
        }
        match &self.snapshot {
            Some(snapshot) => writeln!(
                out,
                "from      the snapshot after record {} and {} record(s)",
                snapshot.base_seq,
                number(self.records)
            )?,
            None => writeln!(
                out,
                "from      {} record(s), the first one included",
                number(self.records)
            )?,
        }
        writeln!(
            out,
            "cost      {} bytes fetched, {}.{:03} s; the database has {} bytes",
            self.bytes_fetched,
            self.elapsed_ms / 1000,
            self.elapsed_ms % 1000,
            number(self.database_bytes)
        )?;
        if !self.files.is_empty() {
            let names: Vec<_> = self.files.iter().map(FileName::as_str).collect();
            writeln!(out, "files     {}", names.join(", "))?;
        }
        if let Some(kept) = &self.kept {
            writeln!(
                out,
                "kept      {}: to be looked at, never to be started",
                kept.display()
            )?;
        }
        Ok(())
    }
}

/// Whether the account holds what this directory saw acknowledged, at its very place (I6).
async fn reaches(
    server: &impl BackupServer,
    account: &AccountState,
    witness: &Witness,
) -> anyhow::Result<()> {
    ensure!(
        account.timeline == Some(witness.timeline),
        "it holds another history of this node than the one that record {} belongs to",
        witness.head.seq
    );
    ensure!(
        account.head.cmp_place(&witness.head) != Ordering::Less,
        "its newest record is {}, and {} was acknowledged: it lost data, or serves an old copy",
        account.head.seq,
        witness.head.seq
    );
    if account.first_seq > witness.head.seq || account.first_seq == 0 {
        return Ok(());
    }
    match server.records(witness.head.seq).await?.first() {
        Some((_, sealed)) if record_hash(sealed) == witness.head.hash => Ok(()),
        _ => bail!(
            "its record {} is not the one that was acknowledged",
            witness.head.seq
        ),
    }
}

/// Makes a directory that is its owner's alone, where there is none.
pub(super) fn private(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("{} cannot be made", dir.display()))
}
