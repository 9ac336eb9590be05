//! `backstop restore`: from a node's secret and a server to the node's database in its place (I7, I9).
//!
//! In order: unlock the secret; find the node's account at the server; look whether the place is free; fence every other
//! writer off; restore; and write what the restored node needs to go on with its backup. Nothing is written before the
//! database is proved, and nothing that was there is ever written over.

mod account;
mod place;
mod report;
mod secret;

use super::{Here, prompt::OwnTerminal};
use crate::{
    cln::{NodeDir, derive::FIRST_GENERATION, locate::Asked},
    keys::Keys,
    node::Ambient,
    remote::{Connect, Server, Session},
    restore::{self, Patient, Request},
};
use account::Account;
use anyhow::bail;
use backstop_protocol::id::{Network, ServerKey};
use place::Place;
use secret::Candidate;
use std::{io::Write, path::PathBuf, sync::Arc};

/// Restore a node's database from its backup. It takes over: the machine that wrote the backup until now is refused
/// from then on.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("secret").required(true))]
#[expect(clippy::doc_markdown, reason = "a person reads it as it stands here")]
pub struct Args {
    /// URL of the server that keeps the backup.
    #[arg(long, value_name = "URL")]
    server: String,
    /// The lightning-dir to restore into; the database goes to DIR/NET/lightningd.sqlite3, which must not exist.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
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
    /// Reach the server through this SOCKS5 proxy, as in socks5h://127.0.0.1:9050 for Tor.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

/// Runs the command at the program's own terminal.
pub(super) fn command(args: &Args, here: &Here, ambient: &Ambient) -> anyhow::Result<()> {
    let candidates = secret::candidates(args, &mut OwnTerminal)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut out = std::io::stdout().lock();
    runtime.block_on(async {
        tokio::select! {
            done = run(args, here, ambient, candidates, &mut out) => done,
            _ = tokio::signal::ctrl_c() => {
                bail!("stopped; nothing was put in place. Where the old machine was fenced off already, it stays so")
            }
        }
    })
}

async fn run(
    args: &Args,
    here: &Here,
    ambient: &Ambient,
    candidates: Vec<Candidate>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let asked = Asked {
        lightning_dir: Some(args.to.clone()),
        network: Some(args.network),
        ..Asked::default()
    };
    let node = NodeDir::find(&asked, here.home.as_deref(), &here.cwd)?;
    let connect = Connect {
        proxy: args.proxy.clone(),
        ..Connect::default()
    };
    let server = Server::new(&args.server, &connect)?;
    let key = server.key(args.server_key).await?;
    let (candidate, grants) = account::find(&server, candidates, args.network).await?;
    let keys = Arc::new(Keys::derive(&candidate.root));
    let place = Place::look(node, &candidate, grants.node, server.url(), key)?;

    let account = Account {
        server: &server,
        key,
        connect: &connect,
        keys: &keys,
        ambient,
    };
    let (reader, state) = account.open(&candidate, grants, args.network).await?;
    report::found(out, &state, key, args.server_key.is_some())?;
    place.make()?;
    let taken = account
        .take_over(&reader, &state, place.instance(&ambient.rng))
        .await?;

    let database = place.database().to_owned();
    let request = Request {
        keys: &keys,
        node: state.node,
        server: key,
        fenced: taken.state.head,
        until: None,
        database: &database,
    };
    let mut bars = report::Bars::default();
    let server = Patient::new(&taken.session, Patient::<Session>::PAUSES);
    let mut show = |step| bars.show(step);
    let restored = restore::restore(&server, &request, &*ambient.clock, &mut show).await?;
    bars.clear();
    let rest = place.complete(&candidate, args, &taken, &restored);
    report::restored(out, &restored, &taken.state)?;
    report::next(out, &rest?, here)?;
    Ok(())
}
