//! `backstop receipt`: what a server signs that it holds, and whether such a paper is worth anything (SPEC 7.6).

use super::{Here, NodeArgs, wait::wait, when::Stamp};
use crate::{
    directory::Directory,
    durable,
    node::{Ambient, Node},
    remote::Session,
};
use anyhow::{Context as _, ensure};
use backstop_protocol::{
    id::ServerKey,
    receipt::{Receipt, SignedReceipt},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Have each server sign what it holds of this node, check that, and keep it in backstop/receipts.
///
/// With --check, look at one that was kept, without any server: a server that shows less later has lost data.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop receipt --network bitcoin
  backstop receipt --check 8f2c07d1-1-4711.json --server-key 8f2c07d1…")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Keep it in this directory instead.
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Check this file and nothing else.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// The key that must have signed it [default: those that this node pinned].
    #[arg(long, value_name = "HEX", requires = "check")]
    server_key: Option<ServerKey>,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints a list of; members are added, never changed.
#[derive(Serialize)]
struct Kept<'a> {
    /// What the server signed, and its signature.
    #[serde(flatten)]
    signed: &'a SignedReceipt,
    /// Where it is kept.
    file: &'a Path,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(file) = &args.check {
        return check(file, args, here, &mut out);
    }
    let node = args.node.load(here, ambient)?;
    let dir = args
        .out
        .clone()
        .unwrap_or_else(|| node.directory.path().join("receipts"));
    std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    wait(fetch(&node, &dir, args.json, &mut out))
}

async fn fetch(node: &Node, dir: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let (mut kept, mut failed) = (Vec::new(), Vec::new());
    for server in &node.config.servers {
        let (clock, rng) = (node.ambient.clock.clone(), node.ambient.rng.clone());
        let connect = node.config.connect();
        let identity = node.identity.clone();
        let signed = match Session::open(&server.url, &connect, server.key, identity, None, clock, rng).await
        {
            Ok((session, _)) => session.receipt().await,
            Err(error) => Err(error),
        };
        let signed = match signed {
            Ok(signed) => signed,
            Err(error) => {
                failed.push(error.to_string());
                continue;
            }
        };
        let receipt = proved(&signed, &[server.key])?;
        ensure!(
            (receipt.node, receipt.network) == (node.config.node, node.config.network),
            "{} signed for another node",
            server.url
        );
        let name: String = server.key.to_string().chars().take(8).collect();
        let file = dir.join(format!("{name}-{}-{}.json", receipt.head.epoch, receipt.head.seq));
        let mut text = serde_json::to_string_pretty(&signed)?;
        text.push('\n');
        durable::write(&file, text.as_bytes(), 0o600)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        if !json {
            said(out, receipt)?;
            writeln!(out, "Kept      {}", file.display())?;
        }
        kept.push((signed, file));
    }
    if json {
        let kept: Vec<_> = kept.iter().map(|(signed, file)| Kept { signed, file }).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&kept)?)?;
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

fn check(file: &Path, args: &Args, here: &Here, out: &mut dyn Write) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let signed: SignedReceipt =
        serde_json::from_slice(&text).with_context(|| format!("{} is no receipt", file.display()))?;
    let pinned = if let Some(key) = args.server_key {
        vec![key]
    } else {
        let directory = Directory::in_network_dir(&args.node.find(here)?.net());
        let config = directory
            .config()
            .context("whose key must it be? Say it with --server-key HEX")?;
        config.servers.iter().map(|server| server.key).collect()
    };
    let receipt = proved(&signed, &pinned)?;
    if args.json {
        let kept = [Kept {
            signed: &signed,
            file,
        }];
        writeln!(out, "{}", serde_json::to_string_pretty(&kept)?)?;
        return Ok(());
    }
    said(out, receipt)?;
    writeln!(
        out,
        "Good      signed by the server's key. To hold it to that: backstop restore --expect {}:{}:{} …",
        receipt.head.epoch, receipt.head.seq, receipt.head.hash
    )?;
    Ok(())
}

/// The statement, if one of these servers signed it.
fn proved<'a>(signed: &'a SignedReceipt, servers: &[ServerKey]) -> anyhow::Result<&'a Receipt> {
    let receipt = signed.verify().context("the receipt proves nothing")?;
    ensure!(
        servers.contains(&receipt.server),
        "the receipt is signed by the server {}, which is none of this node's",
        receipt.server
    );
    Ok(receipt)
}

fn said(out: &mut dyn Write, receipt: &Receipt) -> io::Result<()> {
    let Receipt {
        server,
        node,
        network,
        head,
        time,
        ..
    } = receipt;
    writeln!(
        out,
        "Server    {server}\nsays      that at {}, by its clock, it held node {node} on {network}\n          up to record {} of \
         epoch {}, {}",
        Stamp(*time),
        head.seq,
        head.epoch,
        head.hash
    )
}
