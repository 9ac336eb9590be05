//! `backstop accept`: lets go of the branch that a failed comparison holds on the server.
//!
//! Only the writer may say so, and the writer is a run of the plugin. Where that run is alive, this command opens a
//! session under its very claim: the present writer's own claim succeeds again at any time and changes nothing (SPEC
//! 4.3), so the plugin is not disturbed. A claim that is no longer the writer's fails the compare-and-set; then, with the
//! directory's lock held so that no plugin can be at work, a claim of its own takes the epoch on, as a start would.

use super::{Here, NodeArgs, when::Stamp};
use crate::{
    directory::{Lock, LockError},
    node::{Ambient, Node},
    remote::{RemoteError, Session},
};
use anyhow::{bail, ensure};
use backstop_protocol::{api::AccountState, id::RunId, problem::ProblemCode};
use std::io::{self, Write};

/// How often a claim follows an epoch that somebody raises meanwhile.
const TRIES: u32 = 4;

/// Accept that the backup and the node's database were found to differ, after you looked into it: the server may then
/// drop the branch that it keeps of the time before, as its history allows.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let files = args.node.find(here)?;
    let node = Node::load(&files.net(), ambient)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(accept(&node, &mut io::stdout().lock()))
}

async fn accept(node: &Node, out: &mut dyn Write) -> anyhow::Result<()> {
    let (reader, account) = node.open_reader().await?;
    let Some(since) = account.held_since else {
        writeln!(
            out,
            "Nothing is held at {}: there is nothing to accept.",
            reader.url()
        )?;
        return Ok(());
    };
    let (session, _lock) = writer(node, &account).await?;
    let account = session.accept_proof().await?;
    ensure!(
        account.held_since.is_none(),
        "{} still holds the branch: try again, and see `backstop status`",
        session.url()
    );
    writeln!(
        out,
        "Accepted. What was held since {} goes when the server's history ends.",
        Stamp(since)
    )?;
    Ok(())
}

/// A session of the writer that this directory is, beside its running plugin or in place of one.
async fn writer(node: &Node, account: &AccountState) -> anyhow::Result<(Session, Option<Lock>)> {
    if let Some(claim) = node.present_claim(account.epoch)? {
        match node.open(Some(claim)).await {
            Ok((session, _)) => return Ok((session, None)),
            Err(error) if error.code() == Some(ProblemCode::EpochMismatch) => {}
            Err(error) => return Err(explained(error)),
        }
    }
    let lock = match node.directory.lock() {
        Ok(lock) => lock,
        Err(LockError::Held) => bail!("the plugin is just starting or leaving: try again in a moment"),
        Err(error) => return Err(error.into()),
    };
    let run = RunId(node.ambient.rng.array());
    let mut expected = account.epoch;
    for _ in 0..TRIES {
        match node.open_writer(run, expected).await {
            Ok((session, _)) => return Ok((session, Some(lock))),
            Err(RemoteError::Refused { problem, .. }) if problem.code == ProblemCode::EpochMismatch => {
                expected = problem.epoch.unwrap_or(expected);
            }
            Err(error) => return Err(explained(error)),
        }
    }
    bail!("another machine starts this node again and again: stop it first")
}

fn explained(error: RemoteError) -> anyhow::Error {
    if error.code() == Some(ProblemCode::OtherInstance) {
        return anyhow::anyhow!(
            "another machine is this node's writer: type `backstop accept` there. Nothing was changed"
        );
    }
    error.into()
}
