//! `backstop restore --mirror`: from a mirror's directory, without any server.
//!
//! Nobody is fenced off, so the operator's word stands in for it (I7), and no `backstop/` is written: what goes on from here
//! goes on with a server, and `setup` makes that.

use super::{
    Args, beside,
    place::{HsmSecretRest, Place},
    report,
    secret::Candidate,
};
use crate::{
    cli::{Here, bars::Bars, mirror::describe},
    cln::NodeDir,
    files::Files,
    keys::Keys,
    mirror::Mirror,
    node::Ambient,
    restore::{self, Goal, Request, Restored},
};
use anyhow::{Context as _, ensure};
use std::{io::Write, path::Path, sync::Arc};

/// Restores the newest state that the mirror holds.
pub(super) async fn restore(
    dir: &Path,
    args: &Args,
    here: &Here,
    node: NodeDir,
    candidates: Vec<Candidate>,
    ambient: &Ambient,
    out: &mut dyn Write,
) -> anyhow::Result<Restored> {
    let mirror = Mirror::open(dir).with_context(|| format!("{} is no mirror", dir.display()))?;
    let config = mirror.config();
    let state = mirror.account_state()?;
    ensure!(
        config.network == args.network,
        "{} is a mirror of a node on {}, not on {}",
        dir.display(),
        config.network,
        args.network
    );
    ensure!(
        !state.head.is_empty(),
        "{} holds no record yet: there is nothing to restore",
        dir.display()
    );
    let server = config.servers.first().context("the mirror names no server")?;
    writeln!(out, "Mirror    of node {} on {}", config.node, config.network)?;
    describe(out, &mirror.state()?, ambient.clock.now())?;
    if let Some(expect) = &args.expect {
        expect.check(&mirror, &state).await?;
    }
    let candidate = chosen(candidates, &mirror).await?;
    let network_dir = node.net();
    let place = Place::look(node.clone(), &candidate, config.node, &server.url, server.key)?;
    place.make()?;

    let keys = Arc::new(Keys::derive(&candidate.root));
    let database = place.database().to_owned();
    let request = Request {
        keys: &keys,
        node: config.node,
        server: server.key,
        policy: None,
        goal: Goal::Seen(state.head),
        until: None,
        database: &database,
    };
    let mut bars = Bars::default();
    let mut show = |step| bars.show(step);
    let restored = restore::restore(&mirror, &request, &*ambient.clock, &mut show).await;
    bars.clear();
    let restored = restored?;
    let secret = place.complete_hsm_secret(&candidate, args)?;
    report::of_mirror(out, &restored)?;
    if let Some(sealed) = mirror.sealed_files()? {
        match Files::open(&keys.files, &sealed) {
            Ok(files) => beside::bring_all_back(out, &files, &network_dir)?,
            Err(error) => writeln!(
                out,
                "Files     none came back, and the database needs none: {error}"
            )?,
        }
    }
    next(out, &node, &secret, here, &server.url)?;
    Ok(restored)
}

/// The candidate whose keys open what the mirror holds.
async fn chosen(candidates: Vec<Candidate>, mirror: &Mirror) -> anyhow::Result<Candidate> {
    let account = mirror.account_state()?;
    for candidate in candidates {
        if candidate.node().is_some_and(|node| node != account.node) {
            continue;
        }
        let keys = Keys::derive(&candidate.root);
        if restore::opens(mirror, &keys, &account).await? {
            return Ok(candidate);
        }
    }
    anyhow::bail!(
        "this secret does not open the mirror, which is of node {}: check it, and --generation where setup was given one",
        account.node
    )
}

fn next(
    out: &mut dyn Write,
    node: &NodeDir,
    secret: &HsmSecretRest,
    here: &Here,
    url: &str,
) -> anyhow::Result<()> {
    let program = here.program.display();
    let dirs = format!(
        "--lightning-dir {} --network {}",
        node.base().display(),
        node.network()
    );
    writeln!(
        out,
        "\nNOBODY IS FENCED OFF: never start this node while its old machine runs, or may ever run again. If that happens, \
         channel\nfunds are lost. If any server of this node still answers, restore from it instead: it may hold more, and it \
         fences.\n\nNext:"
    )?;
    let mut steps: Vec<String> = report::secret_step(secret, &node.hsm_secret())
        .into_iter()
        .collect();
    steps.push(format!(
        "set up its backup with a server that answers: {program} setup --server URL {dirs}"
    ));
    steps.push(format!(
        "if that is {url} or another that knows this node: {program} adopt {dirs}"
    ));
    steps.push(format!(
        "put the line that setup prints into the config, and start lightningd with {dirs}"
    ));
    for (number, step) in (1..).zip(steps) {
        writeln!(out, "  {number}. {step}")?;
    }
    Ok(out.flush()?)
}
