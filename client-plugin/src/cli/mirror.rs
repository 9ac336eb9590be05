//! `backstop mirror …`: a backup of the backup, on another device of the operator's.

mod follow;
mod hand_over;
mod report;

pub(super) use report::describe;

use super::grants::Ticket;
use crate::{
    cli::prompt::{self, OwnTerminal, Wanted},
    keys::{KeyFile, RecoveryKey},
    mirror::{self, Config},
    node::Ambient,
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::id::{AccessKey, Network};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Keep a second copy of a node's backup on another device, current with every record.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make this device's access key, and print the public half for `backstop grant --key` on the node.
    #[command(after_help = "Example:

  backstop mirror key --dir /srv/mirror")]
    Key {
        /// The mirror's directory; made where it is not there.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Follow the backup: connect out, catch up, and take each record as it comes, until told to stop. The directory is a
    /// backup by itself: `backstop restore --mirror DIR` needs no server.
    #[command(
        after_help = "Example, behind NAT, with the file that `backstop grant` printed on the node:

  backstop mirror key --dir /srv/mirror
  backstop mirror run --dir /srv/mirror --grant mirror.grant
  backstop mirror run --dir /srv/mirror                        from then on, as from a systemd unit"
    )]
    Run(RunArgs),
    /// Say what the mirror holds and how old that is. Asks nobody.
    #[command(after_help = "Examples:

  backstop mirror status --dir /srv/mirror
  backstop mirror status --dir /srv/mirror --json")]
    Status {
        /// The mirror's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Print JSON for programs.
        #[arg(long)]
        json: bool,
    },
    /// Put the warm standby's database into a lightning-dir, for `backstop adopt` to make it the node's. The mirror must not
    /// run meanwhile.
    #[command(after_help = "Example, with the mirror stopped and the old machine off:

  backstop mirror hand-over --dir /srv/mirror --to /new/lightning-dir
  backstop adopt --lightning-dir /new/lightning-dir --network bitcoin")]
    HandOver {
        /// The mirror's directory.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The lightning-dir; DIR/NET/lightningd.sqlite3 must not exist.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "a person reads it as it stands here")]
struct RunArgs {
    /// The mirror's directory.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// What `backstop grant` printed on the node; needed the first time, and for a new grant.
    #[arg(long, value_name = "FILE")]
    grant: Option<PathBuf>,
    /// Keep what the server drops, and what was superseded here, for this number of days [default: 30].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: Option<u32>,
    /// Reach the server through this SOCKS5 proxy, as in socks5h://127.0.0.1:9050 for Tor.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Keep the node's database itself too, ready to be handed over. The recovery key is asked for the first time, and stays
    /// here in a file: whoever has that can read the backup, and can spend nothing.
    #[arg(long)]
    standby: bool,
    /// With --standby: read the recovery key from this open file descriptor instead of asking.
    #[arg(long, value_name = "N", requires = "standby")]
    secret_fd: Option<u32>,
    /// Catch up and leave.
    #[arg(long)]
    once: bool,
}

/// Runs the command.
pub(super) fn command(args: Args, ambient: &Ambient) -> anyhow::Result<()> {
    match args.command {
        Command::Key { dir } => {
            mirror::create_dir(&dir)?;
            let key = mirror::access_key(&dir, &ambient.rng)?.access_key();
            writeln!(io::stdout(), "{key}")?;
            Ok(())
        }
        Command::Run(args) => run(&args, ambient),
        Command::Status { dir, json } => report::say(&dir, json, ambient.clock.now()),
        Command::HandOver { dir, to } => hand_over::run(&dir, &to),
    }
}

fn run(args: &RunArgs, ambient: &Ambient) -> anyhow::Result<()> {
    let dir = std::path::absolute(&args.dir)?;
    mirror::create_dir(&dir)?;
    let _lock = mirror::lock(&dir)?;
    let access = mirror::access_key(&dir, &ambient.rng)?;
    let config = configure(args, &dir, access.access_key())?;
    let standby = standby_key(args, &dir, &config)?;
    follow::run(&dir, config, access, standby, args.once, ambient)
}

/// What the mirror follows from now on: as it was told before, changed by what it is told now.
fn configure(args: &RunArgs, dir: &Path, own: AccessKey) -> anyhow::Result<Config> {
    let before = Config::exists(dir).then(|| Config::read(dir)).transpose()?;
    let mut config = match (&args.grant, before.clone()) {
        (None, Some(before)) => before,
        (None, None) => bail!(
            "this mirror was never told what to follow: on the node type `backstop grant --scope read --expires 365d --key \
             {own}`, and here --grant FILE with what it prints"
        ),
        (Some(file), before) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            let (ticket, grant) = Ticket::parse(&text).with_context(|| file.display().to_string())?;
            ensure!(
                grant.access_key == own,
                "the grant is for the key {}, and this device's is {own}: give that one to `backstop grant --key`",
                grant.access_key
            );
            let same = |before: &Config| (before.node, before.network) == (ticket.node, ticket.network);
            ensure!(
                before.as_ref().is_none_or(same),
                "{} mirrors another node already: use another directory",
                dir.display()
            );
            Config {
                version: 1,
                node: ticket.node,
                network: ticket.network,
                keep_days: before
                    .as_ref()
                    .map_or(Config::KEEP_DAYS, |before| before.keep_days),
                proxy: before.and_then(|before| before.proxy),
                grant: ticket.grant,
                servers: ticket.servers,
            }
        }
    };
    if let Some(days) = args.keep_days {
        config.keep_days = days;
    }
    if args.proxy.is_some() {
        config.proxy.clone_from(&args.proxy);
    }
    if before.as_ref() != Some(&config) {
        config.write(dir)?;
    }
    Ok(config)
}

/// The key of the standby, where one is kept: asked for once.
fn standby_key(args: &RunArgs, dir: &Path, config: &Config) -> anyhow::Result<Option<KeyFile>> {
    const WANTED: Wanted = Wanted {
        what: "the recovery key",
        option: "--secret-fd",
    };
    let path = mirror::key_path(dir);
    if path.exists() {
        return Ok(Some(key_file(&path, config.network)?));
    }
    if !args.standby {
        return Ok(None);
    }
    let text = prompt::secret(&mut OwnTerminal, WANTED, args.secret_fd)?;
    let key = RecoveryKey::parse(&text)?;
    ensure!(
        key.network == config.network,
        "this recovery key is of a node on {}, not on {}",
        key.network,
        config.network
    );
    let file = KeyFile {
        node: config.node,
        network: config.network,
        // A recovery key does not tell; here nothing is derived by it.
        generation: crate::cln::derive::FIRST_GENERATION,
        root: key.root,
    };
    file.write(&path)?;
    Ok(Some(file))
}

fn key_file(path: &Path, network: Network) -> anyhow::Result<KeyFile> {
    let file = KeyFile::read(path)?;
    ensure!(
        file.network == network,
        "{} is of another network",
        path.display()
    );
    Ok(file)
}
