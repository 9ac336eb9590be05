//! `backstop rollup`: has each server ask for a roll-up, which the plugin then makes in the background.

use super::{Here, NodeArgs, wait::wait};
use crate::{
    node::{Ambient, Node},
    quorum::Answer,
    seat::Seat,
};
use anyhow::bail;
use serde::Serialize;
use std::io::{self, Write};

/// Have the log rolled up into a new snapshot.
///
/// The servers ask for it with lightningd's next commit, and the plugin makes it in
/// the background; `backstop status` shows the new snapshot when it is there. By itself it happens whenever the log has grown
/// long.
#[derive(clap::Args)]
#[command(after_help = "Example:

  backstop rollup --network bitcoin")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints; members are added, never changed.
#[derive(Serialize)]
struct Ordered {
    servers: Vec<Server>,
}

#[derive(Serialize)]
struct Server {
    url: String,
    /// Whether it asks for a roll-up now.
    asks: bool,
    error: Option<String>,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let node = args.node.load(here, ambient)?;
    let ordered = wait(async { Ok(order(&node).await) })?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&ordered)?)?;
    } else {
        for server in &ordered.servers {
            match &server.error {
                None => writeln!(
                    out,
                    "{} asks for a roll-up with lightningd's next commit.",
                    server.url
                )?,
                Some(error) => writeln!(out, "{}: {error}", server.url)?,
            }
        }
    }
    if !ordered.servers.iter().any(|server| server.asks) {
        bail!("no server could be asked; nothing was changed, and the backup goes on as before");
    }
    Ok(())
}

async fn order(node: &Node) -> Ordered {
    let mut servers = Vec::new();
    for (door, Answer { opened, .. }) in node.doors().iter().zip(node.open_readers().await) {
        let asked: anyhow::Result<bool> = async {
            let (_, account) = opened?;
            let seat = Seat::take(node, door, &account).await?;
            Ok(seat.session.order_roll_up().await?.roll_up)
        }
        .await;
        servers.push(Server {
            url: door.server.url.clone(),
            asks: *asked.as_ref().unwrap_or(&false),
            error: asked.err().map(|error| format!("{error:#}")),
        });
    }
    Ordered { servers }
}
