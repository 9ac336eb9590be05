//! `backstop revoke`.
//!
//! A revocation raises a floor, below which the plugin's own grant lies too. So that gets a successor first: signed,
//! shown to every server, and written down; then the floor is raised. A plugin that runs meanwhile shows its old grant
//! when its token ends, is refused, and goes on with what the server remembers for its key. Cut off anywhere, or with a
//! server away, the command is typed again and does the rest.

use super::{ask_all, next_serial, open};
use crate::{
    cli::{Here, NodeArgs, signer::Signer, wait::wait},
    cln::NodeDir,
    node::{Ambient, Node},
};
use anyhow::{Context as _, ensure};
use backstop_protocol::{
    grant::{Grant, Scope, SignedGrant},
    revocation::{Revocation, SignedRevocation},
};
use std::io::{self, Write as _};

/// End the grants that were given to other devices, on every server.
///
/// It bites within ten minutes. Grants end by their serials: all of them, or with --below those that were given before one. A device that may go on
/// gets a new grant. This node's own is renewed on the way; the running node signs both.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop revoke --network bitcoin               ends every grant given so far
  backstop revoke --network bitcoin --below 7     ends those with serials up to 6; see backstop grants")]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// The lowest serial that stays valid [default: above all that were given].
    #[arg(long, value_name = "SERIAL")]
    below: Option<u64>,
    /// Do not ask the running node: show the texts, and take their signatures from standard input.
    #[arg(long)]
    by_hand: bool,
}

/// Runs the command.
pub(crate) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let node = args.node.load(here, ambient)?;
    wait(revoke(args, &node.files, &node))
}

async fn revoke(args: &Args, files: &NodeDir, node: &Node) -> anyhow::Result<()> {
    let answers = ask_all(node).await;
    let heard = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let next = next_serial(node, heard)?;
    let floor = args.below.unwrap_or(next);
    ensure!(
        (1..=next).contains(&floor),
        "no grant has a serial of {next} or above yet: --below is at most {next}"
    );
    let (mut shown, mut typed) = (io::stderr(), io::stdin().lock());
    let mut signer = if args.by_hand {
        Signer::Hand {
            shown: &mut shown,
            typed: &mut typed,
        }
    } else {
        Signer::Node(files)
    };
    let own = renew(node, floor, next, &mut signer)?;
    let revocation = Revocation {
        node: node.config.node,
        network: node.config.network,
        floor,
    };
    let text = revocation.to_string();
    let signature = signer.sign(&text, node.config.node)?;
    let revocation = SignedRevocation { text, signature };
    // A server that comes later hears of it from here.
    node.directory.write_revoked(&revocation)?;

    let mut failed = Vec::new();
    let mut out = io::stdout().lock();
    let mut sessions = Vec::new();
    for server in &node.config.servers {
        // The opening shows the new grant, which the server remembers.
        match open(node, server, &own).await {
            Ok((session, _)) => sessions.push(session),
            Err(error) => failed.push(error.to_string()),
        }
    }
    if own != node.config.grant {
        node.directory
            .replace_grant(&own)
            .context("the grants still stand")?;
    }
    for session in sessions {
        match session.revoke(&revocation).await {
            Ok(known) => writeln!(
                out,
                "{}: no grant with a serial below {} is valid; sessions that are open end within ten minutes",
                session.url(),
                known.floor
            )?,
            Err(error) => failed.push(error.to_string()),
        }
    }
    ensure!(
        failed.is_empty(),
        "{}. There the grants still stand: type this again, as often as it takes",
        failed.join("; ")
    );
    Ok(())
}

/// This node's own grant, anew where the floor would end it.
fn renew(node: &Node, floor: u64, next: u64, signer: &mut Signer<'_>) -> anyhow::Result<SignedGrant> {
    let present = node.config.grant.verify()?;
    if present.serial >= floor {
        return Ok(node.config.grant.clone());
    }
    let grant = Grant {
        access_key: node.keys.access.access_key(),
        scope: Scope::Append,
        serial: next,
        expires_at: None,
        ..present
    };
    let text = grant.to_string();
    let signature = signer.sign(&text, node.config.node)?;
    Ok(SignedGrant { text, signature })
}
