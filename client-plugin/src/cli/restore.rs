//! `backstop restore`: from a node's secret and a server to the node's database in its place (I7, I9).
//!
//! In order: unlock the secret; find the node's account at the server; look whether the place is free; fence every other
//! writer off; restore; and write what the restored node needs to go on with its backup. Nothing is written before the
//! database is proved, and nothing that was there is ever written over.

mod account;
mod beside;
mod expect;
mod look;
mod mirror;
mod outcome;
mod place;
mod report;
mod scb;
mod secret;
mod servers;
mod spool;

use super::{Here, bars::Bars, outage::may_be_missing, prompt::OwnTerminal, wait::wait_or_stop, when::When};
use crate::{
    cln::{
        NodeDir,
        derive::FIRST_GENERATION,
        locate::{Asked, LocateError},
    },
    directory::machine,
    files,
    keys::Keys,
    node::{Ambient, Node},
    remote::{Connect, Server, Session},
    restore::{self, Goal, Patient, Request, RestoreError, Restored},
};
use account::{Account, Grants};
use anyhow::{Context as _, bail};
use backstop_protocol::id::{Network, RunId, ServerKey};
use expect::Expect;
use outcome::Outcome;
use place::{Place, Taken};
use secret::Candidate;
use servers::Chosen;
use spool::OldSpool;
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How often a restore follows the node to other servers.
const POLICIES: u32 = 8;

/// Restore a node's database from its backup.
///
/// It takes over: the machine that wrote the backup until now is refused from then on.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("secret").required(true))]
#[command(after_help = "Examples:

  backstop restore --server URL --to /new/lightning-dir --network bitcoin --mnemonic
  backstop restore --server URL --to /new/lightning-dir --network bitcoin --mnemonic --expect 3:4711
  backstop restore --mirror /srv/mirror --old-node-is-off --to /new/lightning-dir --network bitcoin --recovery-key")]
#[expect(clippy::doc_markdown, reason = "a person reads it as it stands here")]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub struct Args {
    /// URL of a server that keeps the backup. Where the node wrote to several, all of them are asked: the backup names them.
    #[arg(long, value_name = "URL", required_unless_present_any = ["lightning_dir", "mirror"])]
    server: Option<String>,
    /// Restore from this directory, which `backstop mirror` keeps, and ask no server. Nobody is fenced off then: it needs
    /// --old-node-is-off.
    #[arg(
        long,
        value_name = "DIR",
        requires = "old_node_is_off",
        conflicts_with_all = ["server", "lightning_dir", "at", "scb_only"]
    )]
    mirror: Option<PathBuf>,
    /// Your word that the machine that ran this node is off and will never run it again. Two machines with one node lose its channel
    /// funds. With --mirror nothing but your word keeps them apart; without it is needed only where the old node may be going on
    /// without its servers right now (outage policy `spool`).
    #[arg(long, conflicts_with = "at")]
    old_node_is_off: bool,
    /// Bring in what the node did while its servers were away, from its old disk: the old lightning-dir, or backstop/spool in it. It must
    /// go on from where the backup ends.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["at", "mirror"])]
    spool: Option<PathBuf>,
    /// Refuse, before anything is changed, a backup that does not go at least as far as this place, as `backstop status`, a
    /// receipt or a mirror named it: EPOCH:SEQ or EPOCH:SEQ:HASH.
    #[arg(long, value_name = "EPOCH:SEQ[:HASH]", conflicts_with = "at")]
    expect: Option<Expect>,
    /// The lightning-dir to restore into; the database goes to DIR/NET/lightningd.sqlite3, which must not exist. With
    /// --at it goes to DIR/lightningd-at-record-SEQ.sqlite3.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only look at an earlier state: the database after a record, by its number as in 4711, or after the last record
    /// that the server received by a time, as in 2026-11-22T17:00:00Z or 1795366800s. Nothing is taken over. Never start
    /// a node on it: an old state forfeits its channel funds. See `backstop history`.
    #[arg(long, value_name = "WHEN")]
    at: Option<When>,
    /// With --at: a lightning-dir that is set up for this node; its key file stands in for secret and server.
    #[arg(
        long,
        value_name = "DIR",
        group = "secret",
        requires = "at",
        conflicts_with_all = ["server", "scb_only"]
    )]
    lightning_dir: Option<PathBuf>,
    /// Only bring back CLN's emergency.recover, and hsm_secret from words, where no database can be restored: the last
    /// resort, for what follows closes every channel of the node. It takes over as well.
    #[arg(long, conflicts_with = "at")]
    scb_only: bool,
    /// The node's network: bitcoin, testnet, testnet4, signet or regtest.
    #[arg(long, value_name = "NET")]
    network: Network,
    /// The node's hsm_secret file, of any format.
    #[arg(long, value_name = "FILE", group = "secret")]
    hsm_secret: Option<PathBuf>,
    /// Ask for the node's words; its hsm_secret is written too then.
    #[arg(long, group = "secret")]
    mnemonic: bool,
    /// Ask for the recovery key that setup showed.
    #[arg(long, group = "secret", conflicts_with = "generation")]
    recovery_key: bool,
    /// Read the words or the recovery key from this open file descriptor instead of asking.
    #[arg(long, value_name = "N", conflicts_with = "hsm_secret")]
    secret_fd: Option<u32>,
    /// Read the passphrase of hsm_secret, or of the words, from this open file descriptor instead of asking.
    #[arg(long, value_name = "N", conflicts_with = "recovery_key")]
    passphrase_fd: Option<u32>,
    /// The server's key as its operator told you; without it whichever key the server shows is taken.
    #[arg(long, value_name = "HEX")]
    server_key: Option<ServerKey>,
    /// Which of the node's roots the backup was made with, as given to setup.
    #[arg(long, value_name = "N", default_value_t = FIRST_GENERATION)]
    generation: u32,
    /// Restore although fewer of the node's servers answer than it takes to be sure of the newest state. What only the missing ones
    /// hold is lost, and channel funds may be lost with it: only where they are gone for good.
    #[arg(long, conflicts_with = "at")]
    fewer_servers: bool,
    /// Reach the server through this SOCKS5 proxy, as in socks5h://127.0.0.1:9050 for Tor.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Print JSON for programs when it is done; what a person reads goes to standard error then.
    #[arg(long, conflicts_with = "scb_only")]
    json: bool,
}

/// Runs the command at the program's own terminal.
pub(super) fn command(args: &Args, here: &Here, ambient: &Ambient) -> anyhow::Result<()> {
    let candidates = match args.lightning_dir {
        Some(_) => Vec::new(),
        None => secret::candidates(args, &mut OwnTerminal)?,
    };
    let (mut printed, mut told) = (io::stdout().lock(), io::stderr());
    let out: &mut dyn Write = if args.json { &mut told } else { &mut printed };
    let done = wait_or_stop(
        run(args, here, ambient, candidates, out),
        "stopped; nothing was put in place. Where the old machine was fenced off already, it stays so. The same command goes on \
         with what was downloaded",
    )?;
    if let Some(restored) = done.filter(|_| args.json) {
        let fenced = args.at.is_none() && args.mirror.is_none();
        let missing = args
            .spool
            .is_none()
            .then(|| may_be_missing(restored.policy.as_ref()));
        let outcome = Outcome::new(
            restored,
            args.network,
            fenced,
            missing.flatten().filter(|_| fenced),
        );
        writeln!(printed, "{}", serde_json::to_string_pretty(&outcome)?)?;
    }
    Ok(())
}

async fn run(
    args: &Args,
    here: &Here,
    ambient: &Ambient,
    candidates: Vec<Candidate>,
    out: &mut dyn Write,
) -> anyhow::Result<Option<Restored>> {
    if let (Some(at), Some(dir)) = (args.at, &args.lightning_dir) {
        let files = node_dir(dir, args, here)?;
        let node = Node::load(&files.net(), ambient.clone())?;
        let (session, state) = node.open_reader().await?;
        let past = look::Past {
            session: &session,
            keys: &node.keys,
            server: session.server(),
            state,
        };
        return past.put(at, &args.to, ambient, out).await.map(Some);
    }
    if let Some(dir) = &args.mirror {
        let node = node_dir(&args.to, args, here)?;
        return mirror::restore(dir, args, here, node, candidates, ambient, out)
            .await
            .map(Some);
    }
    spool::check_args(args.spool.as_deref(), args.scb_only)?;
    let connect = Connect::through(args.proxy.clone());
    let server = Server::new(args.server.as_deref().context("--server is missing")?, &connect)?;
    let key = server.key(args.server_key).await?;
    let (candidate, grants) = account::find(&server, candidates, args.network).await?;
    let keys = Arc::new(Keys::derive(&candidate.root));
    let account = Account {
        server: &server,
        key,
        connect: &connect,
        keys: &keys,
        ambient,
    };
    if let Some(at) = args.at {
        let (reader, state) = account.open(&candidate, grants, args.network).await?;
        report::found(out, &state, key, args.server_key.is_some())?;
        let past = look::Past {
            session: &reader.session,
            keys: &keys,
            server: key,
            state,
        };
        return past.put(at, &args.to, ambient, out).await.map(Some);
    }
    let node = node_dir(&args.to, args, here)?;
    if args.scb_only {
        scb::run(args, node, &account, &candidate, grants, out).await?;
        return Ok(None);
    }
    whole(args, here, node, &account, &candidate, grants, out)
        .await
        .map(Some)
}

/// Takes over, and makes the directory the node's.
async fn whole(
    args: &Args,
    here: &Here,
    node: NodeDir,
    account: &Account<'_>,
    candidate: &Candidate,
    grants: Grants,
    out: &mut dyn Write,
) -> anyhow::Result<Restored> {
    let (key, ambient) = (account.key, account.ambient);
    let network_dir = node.net();
    let place = Place::look(node, candidate, grants.node, account.server.url(), key)?;
    let (reader, state) = account.open(candidate, grants, args.network).await?;
    report::found(out, &state, key, args.server_key.is_some())?;
    report::last_heard(out, &state)?;
    if let Some(expect) = &args.expect {
        expect.check(&reader.session, &state).await?;
    }
    let old_spool = args.spool.as_deref();
    let old_spool = old_spool
        .map(|path| OldSpool::find(path, args.network, account.keys))
        .transpose()?;
    place.make()?;
    let (instance, run) = (place.instance(&ambient.rng), RunId(ambient.rng.array()));
    let database = place.database().to_owned();
    let mut servers = Chosen::at(account, &reader, &state).await?;
    let mut fenced_at = None;
    // Each time the node went on with other servers, and named them at the old ones.
    for _ in 0..POLICIES {
        let begun: anyhow::Result<_> = async {
            let needed = servers.survey(out, args.fewer_servers).await?;
            let seen = (&reader.session, &state);
            servers
                .allow(account.keys, seen, args.old_node_is_off, fenced_at)
                .await?;
            servers.take_over(instance, run, needed, out).await
        }
        .await;
        let mut takeover = match begun {
            Ok(takeover) => takeover,
            // Where the log cannot be read either, the first reason says more.
            Err(error) => match servers.newer(account, &reader, &state).await {
                Ok(Some(newer)) => {
                    servers = newer;
                    continue;
                }
                Ok(None) | Err(_) => return Err(error),
            },
        };
        fenced_at = Some(takeover.epoch());
        if let Some(old) = &old_spool {
            old.bring(&mut takeover, out).await?;
        }
        let taken = Taken {
            state: takeover.account()?.clone(),
            instance,
            run,
            grant: reader.grant.clone(),
            servers: &servers,
        };
        let request = Request {
            keys: account.keys,
            node: state.node,
            server: takeover.session()?.server(),
            policy: servers.policy.as_ref(),
            goal: Goal::Fenced(taken.state.head),
            until: None,
            database: &database,
        };
        let mut bars = Bars::default();
        let server = Patient::new(&takeover, Patient::<Session>::PAUSES);
        let mut show = |step| bars.show(step);
        let restored = restore::restore(&server, &request, &*ambient.clock, &mut show).await;
        bars.clear();
        match restored {
            Ok(restored) => {
                if let Some(policy) = &servers.policy {
                    let (by, mut rng) = (machine(&args.to), ambient.rng.clone());
                    takeover.sign(account.keys, policy, run, by, &mut rng).await;
                }
                let rest = place.complete(candidate, args, &taken, &restored);
                report::restored(out, &restored, &taken.state)?;
                if old_spool.is_none() {
                    report::missing(out, &restored)?;
                }
                bring_files(out, takeover.session()?, account.keys, &network_dir).await?;
                report::next(out, &rest?, here)?;
                return Ok(restored);
            }
            Err(RestoreError::Policy(policy)) => servers = Chosen::by(Some(*policy), account, &reader),
            Err(error) => return Err(cut(error, &database)),
        }
    }
    bail!("the node changed its servers again and again: restore from the URL of the newest one")
}

/// What a person is told where the restore ended before its end.
fn cut(error: RestoreError, database: &Path) -> anyhow::Error {
    let left = restore::left(database);
    let error = anyhow::Error::from(error);
    match left {
        None => error,
        Some(dir) => error.context(format!(
            "what was downloaded is kept in {}: type the same command again, and it goes on from there",
            dir.display()
        )),
    }
}

async fn bring_files(
    out: &mut dyn Write,
    session: &Session,
    keys: &Keys,
    network_dir: &Path,
) -> anyhow::Result<()> {
    match files::fetch(session, &keys.files, None).await {
        Ok(Some(files)) => beside::bring_all_back(out, &files, network_dir)?,
        Ok(None) => {}
        Err(error) => writeln!(
            out,
            "Files     none came back, and the database needs none: {error}"
        )?,
    }
    Ok(())
}

fn node_dir(lightning_dir: &Path, args: &Args, here: &Here) -> Result<NodeDir, LocateError> {
    let asked = Asked {
        lightning_dir: Some(lightning_dir.to_owned()),
        network: Some(args.network),
        ..Asked::default()
    };
    NodeDir::find(&asked, here.home.as_deref(), &here.cwd)
}
