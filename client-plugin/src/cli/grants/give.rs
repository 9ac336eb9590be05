//! `backstop grant`.

use super::{Ticket, ask_all, next_serial};
use crate::{
    cli::{Here, NodeArgs, expiry::Expiry, signer::Signer, wait::wait},
    node::{Ambient, Node},
};
use anyhow::ensure;
use backstop_protocol::{
    clock::UnixMillis,
    grant::{Grant, Scope, SignedGrant},
    id::AccessKey,
};
use std::io::{self, Write as _};

/// Let another device read this node's backup: ciphertext, and nothing else.
///
/// The running node signs it. Prints a file for that device, which holds no secret.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, for a device on which `backstop mirror key --dir /srv/mirror` printed 5ac7…:

  backstop grant --network bitcoin --scope read --expires 365d --key 5ac7… > mirror.grant"
)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// What it may do; read is all that is given away.
    #[arg(long, value_name = "SCOPE", value_parser = ["read"], default_value = "read")]
    scope: String,
    /// The device's access key, as `backstop mirror key` printed it there.
    #[arg(long, value_name = "PUBKEY")]
    key: AccessKey,
    /// When it ends, by the servers' clocks: never, a span as in 12h, 90d or 52w, or a time as in 2027-11-22T17:00:00Z.
    #[arg(long, value_name = "WHEN")]
    expires: Expiry,
    /// Its serial, where no server can be asked [default: the next one].
    #[arg(long, value_name = "N")]
    serial: Option<u64>,
    /// Do not ask the running node: show the text, and take its signature from standard input.
    #[arg(long)]
    by_hand: bool,
}

/// Runs the command.
pub(crate) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let now = ambient.clock.now();
    let node = args.node.load(here, ambient)?;
    let serial = match args.serial {
        Some(serial) => serial,
        None => serial(&node)?,
    };
    let grant = grant(args, &node, serial, now)?;
    let (mut shown, mut typed) = (io::stderr(), io::stdin().lock());
    let mut signer = if args.by_hand {
        Signer::Hand {
            shown: &mut shown,
            typed: &mut typed,
        }
    } else {
        Signer::Node(&node.files)
    };
    let text = grant.to_string();
    let signature = signer.sign(&text, grant.node)?;
    let given = SignedGrant { text, signature };
    node.directory.add_granted(&given)?;
    let ticket = Ticket::new(&node.config, given);
    writeln!(io::stdout(), "{}", ticket.to_text()?)?;
    Ok(())
}

fn serial(node: &Node) -> anyhow::Result<u64> {
    let answers = wait(async { Ok(ask_all(node).await) })?;
    for (server, answer) in &answers {
        if let Err(error) = answer {
            anyhow::bail!(
                "{error}. To give a grant all the same, name its serial with --serial N ({})",
                server.url
            );
        }
    }
    next_serial(
        node,
        answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()),
    )
}

fn grant(args: &Args, node: &Node, serial: u64, now: UnixMillis) -> anyhow::Result<Grant> {
    ensure!(
        args.key != node.keys.access.access_key(),
        "that is this node's own access key, which may read and append already: give the device's own key, which `backstop \
         mirror key --dir DIR` prints there"
    );
    let expires_at = args.expires.seconds(now);
    ensure!(
        expires_at.is_none_or(|end| end > now.as_secs()),
        "that time is over already: nothing was signed"
    );
    ensure!(i64::try_from(serial).is_ok(), "a serial is below 2^63");
    Ok(Grant {
        access_key: args.key,
        scope: Scope::Read,
        node: node.config.node,
        network: node.config.network,
        serial,
        expires_at,
    })
}
