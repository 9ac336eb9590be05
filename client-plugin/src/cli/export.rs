//! `backstop export`: the backup as a plain SQLite file, for whoever leaves or looks. It reads alone.

use super::{
    Here, NodeArgs,
    bars::Bars,
    wait::wait_or_stop,
    when::{Stamp, When},
};
use crate::{
    node::{Ambient, Node},
    remote::Session,
    restore::{self, Goal, History, Patient, Request, Restored, Until},
};
use anyhow::{Context as _, ensure};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Write the database as it was after any record into a plain SQLite file.
///
/// Any record that the backup reaches, the newest if none is named. It is checked as a restore is. Nothing is taken over: the node goes on
/// meanwhile. Never start a node on the file; a node comes back by `backstop restore`, which fences the old machine off.
#[derive(clap::Args)]
#[command(after_help = "Examples:

  backstop export --network bitcoin --to /tmp/now.sqlite3
  backstop export --network bitcoin --to /tmp/then.sqlite3 --at 2026-11-22T17:00:00Z")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// The file to write, which must not exist.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The point in time: a record by its number as in 4711, or a time as in 2026-11-22T17:00:00Z or 1795366800s.
    #[arg(long, value_name = "WHEN")]
    at: Option<When>,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints; members are added, never changed.
#[derive(Serialize)]
struct Exported {
    node: NodeId,
    network: Network,
    file: PathBuf,
    bytes: u64,
    /// The record after which the database stood so.
    seq: u64,
    /// CLN's own counter in it.
    data_version: u64,
    /// When the server received that record.
    received_at: Option<UnixMillis>,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let node = args.node.load(here, ambient)?;
    let to = here.cwd.join(&args.to);
    let restored = wait_or_stop(export(&node, args.at, &to), "stopped; nothing was written")?;
    let exported = Exported {
        node: node.config.node,
        network: node.config.network,
        file: restored.database,
        bytes: restored.database_len,
        seq: restored.seq,
        data_version: restored.data_version,
        received_at: restored.received_at,
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&exported)?)?;
        return Ok(());
    }
    let received = exported
        .received_at
        .map_or_else(String::new, |at| format!(", received {}", Stamp(at)));
    writeln!(
        out,
        "Wrote     {} ({} bytes)\n          the state after record {}, data_version {}{received}\nLOOK ONLY Never start a node on it: \
         peers may take all funds of a node that goes on from an old state.",
        exported.file.display(),
        exported.bytes,
        exported.seq,
        exported.data_version
    )?;
    Ok(())
}

async fn export(node: &Node, at: Option<When>, to: &Path) -> anyhow::Result<Restored> {
    // It would be found out later too, after everything was fetched.
    ensure!(
        !to.exists(),
        "{} exists, and nothing is written over",
        to.display()
    );
    let parent = to.parent().context("the file to write has no directory")?;
    ensure!(parent.is_dir(), "{} is no directory", parent.display());
    let (session, state) = node.open_reader().await?;
    ensure!(
        !state.head.is_empty(),
        "{} has no backup of this node yet: start lightningd, and its first batch makes one",
        session.url()
    );
    let server = Patient::new(&session, Patient::<Session>::PAUSES);
    let head = state.head;
    let history = History::read(&server, state).await?;
    let seq = match at {
        None => head.seq,
        Some(When::Record(seq)) => history.reaches(seq).map(|()| seq)?,
        Some(When::Time(at)) => history.record_at(&server, at).await??,
    };
    let request = Request {
        keys: &node.keys,
        node: node.config.node,
        server: session.server(),
        policy: None,
        goal: Goal::Seen(head),
        until: Some(Until::Record(seq)),
        database: to,
    };
    let mut bars = Bars::default();
    let mut show = |step| bars.show(step);
    let restored = restore::restore(&server, &request, &*node.ambient.clock, &mut show).await;
    bars.clear();
    Ok(restored?)
}
