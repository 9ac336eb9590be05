//! The command line.

use crate::{Config, DEFAULT_LISTEN, Server, default_data_dir};
use anyhow::Context as _;
use backstop_protocol::clock::SystemClock;
use clap::{Parser, Subcommand};
use getrandom::{SysRng, rand_core::UnwrapErr};
use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
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
    },
}

/// Does what the command line asks for.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    log_to_stderr();
    match cli.command {
        Command::Serve { listen, data } => serve(listen, data).await,
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

async fn serve(listen: SocketAddr, data: Option<PathBuf>) -> anyhow::Result<()> {
    let data = match data {
        Some(data) => std::path::absolute(&data).with_context(|| format!("--data {}", data.display()))?,
        None => default_data_dir()?,
    };
    // Before anything starts, so that none is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = Config {
        listen,
        ..Config::new(data.clone())
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
