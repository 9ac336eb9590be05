//! `backstop grants`.

use super::ask_all;
use crate::{
    cli::{Here, NodeArgs, when::Stamp},
    node::{Ambient, Node},
};
use backstop_protocol::{
    api::{AccountGrants, RememberedGrant},
    clock::UnixMillis,
    grant::{Grant, Scope, SignedGrant},
};
use std::io::{self, Write};

/// List the grants of this node: those that its servers were shown, and those that were given here.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

/// Runs the command. It fails where a server could not be asked, after it said all that is known.
pub(crate) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let files = args.node.find(here)?;
    let now = ambient.clock.now();
    let node = Node::load(&files.net(), ambient)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answers = runtime.block_on(ask_all(&node));
    let mut out = io::stdout().lock();
    let mut silent = Vec::new();
    for (server, answer) in &answers {
        match answer {
            Ok(known) => of_server(&mut out, &server.url, known, &node, now)?,
            Err(error) => silent.push(error.to_string()),
        }
    }
    let shown = |given: &SignedGrant| {
        let known = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        known
            .flat_map(|answer| &answer.grants)
            .any(|known| known.text == given.text)
    };
    let waiting: Vec<_> = node.directory.granted()?;
    let waiting: Vec<_> = waiting.iter().filter(|given| !shown(given)).collect();
    if !waiting.is_empty() {
        writeln!(out, "Given here, and shown to no server that answered:")?;
    }
    for given in waiting {
        line(&mut out, &given.verify()?, &node, 0, now, "")?;
    }
    anyhow::ensure!(silent.is_empty(), "{}", silent.join("; "));
    Ok(())
}

fn of_server(
    out: &mut dyn Write,
    url: &str,
    known: &AccountGrants,
    node: &Node,
    now: UnixMillis,
) -> anyhow::Result<()> {
    writeln!(out, "{url}, where no serial below {} is valid:", known.floor)?;
    for grant in &known.grants {
        // What a server says here is worth what the node's signature under it is worth.
        match signed(grant).verify() {
            Ok(read) => {
                let since = format!(", first shown {}", Stamp(grant.shown_at));
                line(out, &read, node, known.floor, now, &since)?;
            }
            Err(error) => writeln!(out, "  not signed by this node ({error}): {}", grant.text)?,
        }
    }
    Ok(())
}

fn line(
    out: &mut dyn Write,
    grant: &Grant,
    node: &Node,
    floor: u64,
    now: UnixMillis,
    since: &str,
) -> io::Result<()> {
    let scope = match grant.scope {
        Scope::Read => "read",
        Scope::Append => "append",
    };
    let end = match grant.expires_at {
        _ if grant.serial < floor => "REVOKED".to_owned(),
        Some(end) if end < now.as_secs() => "EXPIRED".to_owned(),
        Some(end) => format!("until {}", Stamp(UnixMillis(end.saturating_mul(1000)))),
        None => "for ever".to_owned(),
    };
    let own = if grant.access_key == node.keys.access.access_key() {
        " (this node's own)"
    } else {
        ""
    };
    writeln!(
        out,
        "  {:>4}  {scope:6}  {end}{since}\n        key {}{own}",
        grant.serial, grant.access_key
    )
}

/// The grant as the node signed it.
pub(super) fn signed(known: &RememberedGrant) -> SignedGrant {
    SignedGrant {
        text: known.text.clone(),
        signature: known.signature.clone(),
    }
}
