//! `backstop adopt`: makes this directory the node's writer, and brings its database forward to the backup (I6, I7).
//!
//! In order: prove that the database is the backup's at its version; fence every other writer off; read the head again;
//! apply what the database lacks; and only then call this directory the writer. Run again after it was cut off, it does
//! the rest.

mod lost;

use super::{Here, NodeArgs, outage, wait::wait};
use crate::{
    cln::pidfile::{self, Holder},
    directory::{Config, LockError, ServerConfig, Stated, Witness},
    forward::{missing_batches, prove_equal},
    node::{Ambient, Node},
    plugin::{Utc, newest_version},
    quorum::{Rule, ServerDoor, Takeover, Who},
    record::Policy,
    remote::Session,
    replay::{Durability, Replay},
    restore::policy::{self, Depth},
    spool::{self, Spooled},
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::{
    api::AccountState,
    id::{InstanceId, RunId},
};
use std::{cmp::Ordering, io::Write};

/// How often the node is followed to other servers.
const POLICIES: u32 = 8;

/// Make this directory the node's writer again.
///
/// That is for after it was copied or moved, after another machine ran the node, or where its database is older than the backup.
/// lightningd must be stopped, here and on any other machine. The database is compared with the backup and brought forward; the other
/// machine is refused from then on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop adopt --network bitcoin
  backstop adopt --network bitcoin --server-lost-records")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// The server really lost records of this node and cannot bring them back: go on from this database, which is the
    /// complete one. What the server still has is kept there as a branch of its own until `backstop accept`.
    #[arg(long)]
    server_lost_records: bool,
    /// Your word that the machine that runs this node is off and will never run it again: needed where it may be going on without its
    /// servers right now (outage policy `spool`). Two machines with one node lose its channel funds.
    #[arg(long)]
    old_node_is_off: bool,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let files = args.node.find(here)?;
    ensure!(
        matches!(pidfile::holder(files.pidfile()), Ok(Holder::Nobody)),
        "lightningd runs in {}: stop it first, nothing was changed",
        files.base().display()
    );
    let node = Node::load(&files.net(), ambient)?;
    let _lock = match node.directory.lock() {
        Ok(lock) => lock,
        Err(LockError::Held) => {
            bail!("the plugin of a lightningd that just stopped is still there: try again in a moment")
        }
        Err(error) => return Err(error.into()),
    };
    let mut out = std::io::stdout().lock();
    wait(async {
        let node = if args.server_lost_records {
            node
        } else {
            follow(node).await?
        };
        allow(&node, args).await?;
        if args.server_lost_records {
            lost::adopt(&node, &mut out).await?;
            // The chain goes on from the server's head: the database has these updates, and the backup gets them with its snapshot.
            spool::remove(&node.directory.spool())?;
            Ok(())
        } else {
            adopt(&node, &mut out).await
        }
    })
}

/// The node with the servers that its backup went on with, which may be others than this directory knows.
async fn follow(mut node: Node) -> anyhow::Result<Node> {
    for _ in 0..POLICIES {
        let (reader, account) = node.open_reader().await?;
        let stated = policy::policy(&reader, &node.keys, &account, Depth::Full).await?;
        match stated.and_then(|policy| with_policy(&node, &policy)) {
            Some(config) => node.config = config,
            None => break,
        }
    }
    Ok(node)
}

/// Refuses where this node, here or elsewhere, did or may be doing what no server has heard of yet.
async fn allow(node: &Node, args: &Args) -> anyhow::Result<()> {
    let path = node.directory.spool();
    if let Some(spooled) = Spooled::read(&path)?
        && !args.server_lost_records
    {
        bail!(
            "{} holds {} update(s) that this node acted on while its servers were away, and that an adopted directory would lose. \
             Nothing was changed. If nobody took the node over, start lightningd: it sends them. Else restore into another directory: \
             backstop restore --spool {} ...",
            path.display(),
            spooled.records.len(),
            path.display()
        );
    }
    let answers = node.open_readers().await;
    let opened = answers.iter().filter_map(|answer| answer.opened.as_ref().ok());
    let opened: Vec<_> = opened.map(|(session, account)| (session, account)).collect();
    outage::allow(&opened, &node.keys, args.old_node_is_off).await
}

/// The way on where this database cannot be brought forward.
const UNCHANGED: &str =
    "nothing was changed, here or at the server. `backstop restore` makes a new database from the backup";

async fn adopt(node: &Node, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = node.database();
    ensure!(
        path.exists(),
        "{} is not there: there is nothing to adopt. `backstop restore` makes a new database from the backup",
        path.display()
    );
    let (reader, before) = node.open_reader().await?;
    ensure!(
        !before.head.is_empty(),
        "{} has no backup of this node: start lightningd, and its first batch makes one",
        reader.url()
    );
    if let Some(seen) = before.writer_seen_at {
        let ago = before.time.millis_since(seen) / 1000;
        writeln!(
            out,
            "The server last heard from this node's writer {ago} s ago ({}).",
            Utc(seen)
        )?;
    }
    let mut replay = Replay::open(&path, Durability::Full)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    let database = replay.data_version().with_context(|| {
        format!(
            "{} holds no node, and the backup has one: nothing was changed. Remove it, and `backstop restore` makes a new \
             database from the backup",
            path.display()
        )
    })?;
    let newest = check(node, &reader, &before, database).await?;

    // Before anybody is fenced off: where this fails, whoever writes now goes on.
    prove_equal(node, &reader, before.head, &replay, database)
        .await
        .context(UNCHANGED)?;
    if database < newest {
        missing_batches(node, &reader, before.head, database, |_| true)
            .await
            .context(UNCHANGED)?;
    }
    writeln!(out, "This database is what the backup had at version {database}.")?;

    let instance = InstanceId(node.ambient.rng.array());
    let run = RunId(node.ambient.rng.array());
    let who = Who {
        instance,
        run,
        takeover: true,
        taken_at: 0,
    };
    let (policy, rule, doors) = servers(node, &reader, &before).await?;
    let taken = Takeover::begin(&doors, who, rule.to_take_over(), 0)
        .await
        .context("this directory cannot take over; nothing was changed here")?;
    let (session, account) = (taken.session()?, taken.account()?);
    tell_left_out(&taken, out)?;
    writeln!(out, "Any other machine with this node is refused from here on.")?;
    let backup = check(node, session, account, database).await?;
    if database < backup {
        for batch in missing_batches(node, session, account.head, database, |_| true).await? {
            replay.apply(&batch)?;
        }
        writeln!(out, "Brought forward to version {backup}.")?;
    }
    replay.finish()?;
    // Nobody took over while this was at work.
    taken.confirm().await?;

    // The order makes a cut harmless: until the instance is written, this directory is a stranger to the server.
    let timeline = account.timeline.context("the server names no timeline")?;
    node.directory
        .write_witness(&Witness::new(timeline, account.head, backup))?;
    node.directory.reset_runs()?;
    node.directory.begin_run(run)?;
    node.directory.end_run()?;
    if let Some(policy) = &policy {
        let mut rng = node.ambient.rng.clone();
        taken
            .sign(&node.keys, policy, run, node.machine(), &mut rng)
            .await;
    }
    if let Some(policy) = &policy {
        let servers = policy.servers.iter().map(|server| server.key);
        let stated = Stated::new(policy.require.into(), servers);
        node.directory.write_stated(&stated)?;
        node.directory.write_declared_spool(policy.spool_seconds)?;
        if let Some(missing) = outage::may_be_missing(Some(policy)) {
            writeln!(out, "Careful: {missing}.")?;
        }
    }
    let config = policy.and_then(|policy| with_policy(node, &policy));
    let config = config.as_ref().unwrap_or(&node.config);
    if *config != node.directory.config()? {
        writeln!(
            out,
            "The backup went on with other servers: config.toml names them now."
        )?;
        node.directory.write_config(config)?;
    }
    node.directory.write_taken_at(taken.epoch())?;
    node.directory.write_instance(instance)?;
    writeln!(out, "Adopted. Start lightningd here, and nowhere else.")?;
    Ok(())
}

/// Names the servers at which the takeover is not complete.
fn tell_left_out(taken: &Takeover<ServerDoor>, out: &mut dyn Write) -> std::io::Result<()> {
    for (url, error) in taken.silent() {
        writeln!(
            out,
            "{url} does not refuse another machine yet: {error}. The next start of lightningd sees to it."
        )?;
    }
    for (url, error) in taken.behind() {
        writeln!(out, "{url} could not be brought to the newest record: {error}")?;
    }
    Ok(())
}

/// Whether the backup can be adopted into a database of this version; returns the backup's.
async fn check(node: &Node, session: &Session, account: &AccountState, database: u64) -> anyhow::Result<u64> {
    if let Some(witness) = node.directory.witness()? {
        ensure!(
            account.timeline == Some(witness.timeline)
                && account.head.cmp_place(&witness.head) != Ordering::Less,
            "{} holds less of this node than was acknowledged here (record {}): it lost data, or serves an old copy. \
             Nothing was changed; ask whoever runs it to bring its data back. If they are lost for good, this database is the \
             complete one: backstop adopt --server-lost-records",
            session.url(),
            witness.head.seq
        );
    }
    let backup = newest_version(node, session, account)
        .await?
        .context("the backup holds no database yet")?;
    ensure!(
        database <= backup,
        "this database is newer than the backup (version {database}, the backup {backup}): nothing was changed. Keep it. If no \
         other machine ran this node since, type: backstop adopt --server-lost-records. If one did, its state is the one to go \
         on with: `backstop restore` makes a new database from the backup"
    );
    Ok(backup)
}

/// The servers that the node's last word names, which may be others than this directory knows.
async fn servers(
    node: &Node,
    reader: &Session,
    account: &AccountState,
) -> anyhow::Result<(Option<Policy>, Rule, Vec<ServerDoor>)> {
    let stated = policy::policy(reader, &node.keys, account, Depth::Full).await?;
    let config = stated.as_ref().and_then(|policy| with_policy(node, policy));
    let config = config.as_ref().unwrap_or(&node.config);
    let doors = config.servers.iter().cloned().map(|server| node.door(server));
    Ok((stated, config.rule(), doors.collect()))
}

/// The configuration by this policy; `None` where it says so already.
fn with_policy(node: &Node, policy: &Policy) -> Option<Config> {
    let known = &node.config;
    let servers: Vec<_> = policy
        .servers
        .iter()
        .map(|server| {
            let known = known.servers.iter().find(|known| known.key == server.key);
            known.cloned().unwrap_or_else(|| ServerConfig {
                url: server.url.clone(),
                key: server.key,
            })
        })
        .collect();
    let require = policy.require.into();
    let is_known = known.require == require
        && known.servers.len() == servers.len()
        && known.servers.iter().all(|server| servers.contains(server));
    (!is_known).then(|| Config {
        require,
        servers,
        ..known.clone()
    })
}
