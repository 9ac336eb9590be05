//! `backstop restore --scb-only`: CLN's emergency recovery file alone, for where no database can be had.
//!
//! It takes over all the same. What comes back is a node with another database, of which the server will never hear; so
//! this is the last moment at which the old machine can be kept from acting while its peers are told to close (I7).
//! Nothing is fenced off before the file was seen and the place found free.

use super::{
    Args,
    account::{Account, Grants},
    beside::{self, Fate},
    place::{HsmSecretRest, Place},
    report,
    secret::Candidate,
    servers::Chosen,
};
use crate::{
    cli::when::Stamp,
    cln::NodeDir,
    files::{self, File, FileName},
    keys::Keys,
    remote::Session,
};
use anyhow::{Context as _, bail};
use backstop_protocol::{clock::UnixMillis, id::RunId};
use std::{
    fs,
    io::{self, Write},
};

/// Brings the file back, and says what to do with it.
pub(super) async fn run(
    args: &Args,
    node: NodeDir,
    account: &Account<'_>,
    candidate: &Candidate,
    grants: Grants,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let place = Place::look(
        node.clone(),
        candidate,
        grants.node,
        account.server.url(),
        account.key,
    )?;
    let (reader, state) = account.open(candidate, grants, args.network).await?;
    report::found(out, &state, account.key, args.server_key.is_some())?;
    let (file, _) = emergency(&reader.session, account.keys).await?;
    let path = beside::target(&file.name, &node.net());
    if fs::read(&path).is_ok_and(|found| found != file.bytes) {
        bail!(
            "{} is there and is another one: move it away. Nothing was changed",
            path.display()
        );
    }
    place.make()?;
    let quick = Chosen::at(account, &reader, &state).await?;
    writeln!(
        out,
        "Reading   the log to its end ({} bytes) for the newest servers of this node: at all of them its old machine must be refused",
        state.log_bytes
    )?;
    // A log that cannot be read is why one comes here.
    let newer = quick.newer(account, &reader, &state).await.unwrap_or_default();
    let servers = newer.unwrap_or(quick);
    let needed = servers.survey(out, args.fewer_servers).await?;
    let seen = (&reader.session, &state);
    servers
        .allow(account.keys, seen, args.old_node_is_off, None)
        .await?;
    let rng = &account.ambient.rng;
    let (instance, run) = (place.instance(rng), RunId(rng.array()));
    let taken = servers.take_over(instance, run, needed, out).await?;
    // The last one that the old machine sent.
    let (file, read_at) = emergency(taken.session()?, account.keys).await?;
    match beside::bring_back(&file, &node.net()) {
        Fate::Written | Fate::There => {}
        Fate::Other => bail!(
            "{} is there and is another one: move it away and type this again. The old machine is refused already",
            path.display()
        ),
        Fate::Failed(error) => {
            return Err(error).with_context(|| format!("{} could not be written", path.display()));
        }
    }
    let secret = place.complete_hsm_secret(candidate, args)?;
    writeln!(
        out,
        "Wrote     {}, as it was at {}",
        path.display(),
        Stamp(read_at)
    )?;
    if secret == HsmSecretRest::Written {
        writeln!(out, "          {}, from the words", node.hsm_secret().display())?;
    }
    next(out, &node, &secret)?;
    Ok(())
}

async fn emergency(session: &Session, keys: &Keys) -> anyhow::Result<(File, UnixMillis)> {
    let found = files::fetch(session, &keys.files, None).await?;
    let found = found.and_then(|files| {
        let read_at = files.read_at;
        let mut files = files.files.into_iter();
        files
            .find(|file| file.name.is_emergency())
            .map(|file| (file, read_at))
    });
    found.with_context(|| {
        format!(
            "{} holds no {} of this node: without it or the database only the funds that are not in channels come back, \
             from hsm_secret. Peers may still hold a copy: start lightningd and type `lightning-cli restorefrompeer`",
            session.url(),
            FileName::EMERGENCY
        )
    })
}

fn next(out: &mut dyn Write, node: &NodeDir, secret: &HsmSecretRest) -> io::Result<()> {
    let dir = format!(
        "--lightning-dir={} --network={}",
        node.base().display(),
        node.network()
    );
    writeln!(
        out,
        "Fenced    the machine that wrote this backup until now is refused from here on\n\n\
         LAST RESORT. What follows closes every channel of this node, needs each peer's cooperation, and brings back \
         neither payments nor invoices. If the database can be restored, do that instead: the same command without \
         --scb-only.\n\nNext:"
    )?;
    let mut steps = vec!["never start the old machine's copy of this node again;".to_owned()];
    steps.extend(report::secret_step(secret, &node.hsm_secret()));
    steps.push(
        "take backstop's important-plugin line out of this node's config: its new database is not the one that is backed \
         up;"
            .to_owned(),
    );
    steps.push(format!(
        "start lightningd with {dir}, and open no channel before the next step;"
    ));
    steps.push(format!("type: lightning-cli {dir} emergencyrecover"));
    steps.push(format!(
        "let it run until every peer has closed its channel and the time locks are over: lightning-cli {dir} listfunds"
    ));
    for (number, step) in (1..).zip(steps) {
        writeln!(out, "  {number}. {step}")?;
    }
    out.flush()
}
