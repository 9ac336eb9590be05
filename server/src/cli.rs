//! The command line.

mod node;
mod units;

use crate::{
    Config, DEFAULT_LISTEN, DatabaseUrl, Server, default_data_dir,
    store::{HistoryPolicy, RollUpPolicy},
};
use anyhow::Context as _;
use backstop_protocol::clock::SystemClock;
use clap::{Args, Parser, Subcommand};
use getrandom::{SysRng, rand_core::UnwrapErr};
use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Keeps encrypted backups of Core Lightning nodes, and cannot read them.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until it is told to stop (SIGTERM or Ctrl-C).
    Serve {
        /// Where to listen; port 0 takes any that is free.
        #[arg(long, value_name = "ADDR:PORT", default_value_t = DEFAULT_LISTEN)]
        listen: SocketAddr,
        /// Where everything is kept [default: $XDG_DATA_HOME/backstop-server or ~/.local/share/backstop-server, for
        /// root /var/lib/backstop-server].
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        policies: Policies,
    },
    /// What concerns one node.
    Node {
        #[command(subcommand)]
        command: node::NodeCommand,
    },
}

/// Where records are kept.
#[derive(Debug, Args)]
struct Database {
    /// Keep records in this PostgreSQL database (14 or later) instead of a SQLite file in the data directory. Servers that
    /// share it share the data directory too. A password belongs into ~/.pgpass or the environment, not here, where
    /// everybody on the machine can read it.
    #[arg(
        long = "database",
        value_name = "postgres://...",
        env = "BACKSTOP_SERVER_DATABASE",
        hide_env_values = true
    )]
    url: Option<DatabaseUrl>,
}

/// When a node is asked for a new snapshot, and what is kept then. A roll-up is asked for as soon as one of its bounds is
/// reached.
#[derive(Debug, Args)]
struct Policies {
    /// Ask for a roll-up at this size of the log above the newest snapshot, unless --roll-up-ratio asks for more.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = units::bytes)]
    roll_up_bytes: u64,
    /// The share of the newest snapshot's size that this log must reach too.
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = units::percent)]
    roll_up_ratio: u64,
    /// Ask for a roll-up at this number of records above the newest snapshot.
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    roll_up_records: u64,
    /// Ask for a roll-up when the oldest of these records is of this age.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = units::time)]
    roll_up_age: Duration,
    /// Keep at least this number of snapshots of each node, and the log above the oldest of them.
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    history_snapshots: usize,
    /// Keep each snapshot for at least this number of days after a newer one was completed; never less than one.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    history_days: u32,
}

impl Policies {
    fn apply(self, config: Config) -> Config {
        Config {
            roll_up: RollUpPolicy {
                min_bytes: self.roll_up_bytes,
                percent: self.roll_up_ratio,
                records: self.roll_up_records,
                age: self.roll_up_age,
            },
            history: HistoryPolicy {
                snapshots: self.history_snapshots,
                days: self.history_days,
            },
            ..config
        }
    }
}

/// Does what the command line asks for.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    log_to_stderr();
    match cli.command {
        Command::Serve {
            listen,
            data,
            database,
            policies,
        } => serve(listen, data, database, policies).await,
        Command::Node { command } => node::run(command).await,
    }
}

/// `RUST_LOG` decides what is logged; without it, from level info on.
fn log_to_stderr() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
}

async fn serve(
    listen: SocketAddr,
    data: Option<PathBuf>,
    database: Database,
    policies: Policies,
) -> anyhow::Result<()> {
    let data = match data {
        Some(data) => std::path::absolute(&data).with_context(|| format!("--data {}", data.display()))?,
        None => default_data_dir()?,
    };
    // Before anything starts, so that none is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = Config {
        listen,
        database: database.url,
        ..policies.apply(Config::new(data.clone()))
    };
    let server = Server::bind(config, Arc::new(SystemClock), &mut UnwrapErr(SysRng)).await?;
    let greeting = greeting(&server, &data);
    let mut stdout = io::stdout();
    // Nobody has to read it.
    let _ = stdout
        .write_all(greeting.as_bytes())
        .and_then(|()| stdout.flush());
    let shutdown = async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: finishing what is under way");
    };
    server.run(shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What a person does next.
fn greeting(server: &Server, data: &Path) -> String {
    let addr = server.local_addr();
    let (key, data) = (server.server_key(), data.display());
    let mut text = format!(
        "backstop-server {}
data in {data}
server key {key}
listening on http://{addr}

To back up a node, run on its machine, as the user that runs lightningd:

    backstop setup --server http://{}

with --lightning-dir and --network where lightning-cli needs them too, and compare the server key that it shows with
the one above. Ctrl-C stops the server; nothing is lost.
",
        env!("CARGO_PKG_VERSION"),
        reachable(addr),
    );
    if !addr.ip().is_loopback() {
        text.push_str(
            "
Others can reach this address. Whatever is sent here is authenticated and the backups are encrypted, but without TLS
anybody on the way sees which nodes are backed up here, when, and how much. Put a proxy with TLS or an onion service in front.
",
        );
    }
    text
}

/// The address as another machine writes it.
fn reachable(addr: SocketAddr) -> String {
    if addr.ip().is_unspecified() {
        format!("THIS-MACHINE:{}", addr.port())
    } else {
        addr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_chooses_is_what_the_library_has_as_default() {
        let cli = Cli::try_parse_from(["backstop-server", "serve"]).unwrap();
        let Command::Serve { policies, .. } = cli.command else {
            panic!("{cli:?}");
        };
        let (chosen, default) = (
            policies.apply(Config::new(PathBuf::new())),
            Config::new(PathBuf::new()),
        );
        assert_eq!(
            (chosen.roll_up, chosen.history),
            (default.roll_up, default.history)
        );
    }
}
