//! `backstop accept`: lets go of the branch that a failed comparison holds on the server. Only the writer may say so; how
//! this command speaks for it beside the plugin is [`Seat`]'s matter.

use super::{Here, NodeArgs, wait::wait, when::Stamp};
use crate::{
    node::{Ambient, Node},
    quorum::Answer,
    seat::Seat,
};
use anyhow::{Context as _, ensure};
use std::io::{self, Write};

/// Accept that the backup and the node's database were found to differ, after you looked into it.
///
/// The server may then drop the branch that it keeps of the time before, as its history allows.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:

  backstop accept --network bitcoin")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let node = args.node.load(here, ambient)?;
    wait(accept(&node, &mut io::stdout().lock()))
}

async fn accept(node: &Node, out: &mut dyn Write) -> anyhow::Result<()> {
    let (mut held, mut silent) = (0, None);
    for (door, Answer { opened, .. }) in node.doors().iter().zip(node.open_readers().await) {
        let (reader, account) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                silent = silent.or(Some(error));
                continue;
            }
        };
        let Some(since) = account.held_since else { continue };
        held += 1;
        let seat = Seat::take(node, door, &account).await?;
        let account = seat.session.accept_proof().await?;
        ensure!(
            account.held_since.is_none(),
            "{} still holds the branch: try again, and see `backstop status`",
            seat.session.url()
        );
        writeln!(
            out,
            "Accepted. What {} held since {} goes when the server's history ends.",
            reader.url(),
            Stamp(since)
        )?;
    }
    if let Some(error) = silent {
        return Err(error).context("not every server could be asked: type this again when it is back");
    }
    if held == 0 {
        let urls: Vec<_> = node
            .config
            .servers
            .iter()
            .map(|server| server.url.as_str())
            .collect();
        writeln!(
            out,
            "Nothing is held at {}: there is nothing to accept.",
            urls.join(" and ")
        )?;
    }
    Ok(())
}
