//! `backstop-server node …`: an operator's word on one node, while the server runs.

use crate::{
    Config, DatabaseUrl,
    data_dir::database_in,
    default_data_dir,
    store::{Account, postgres, sqlite},
};
use anyhow::Context as _;
use backstop_protocol::{
    clock::{Clock as _, SystemClock},
    id::{Network, NodeId},
};
use clap::{Args, Subcommand};
use std::{
    io::{self, Write as _},
    path::PathBuf,
};

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Order a roll-up: with its next record the node is asked for a new snapshot, whatever the policy says. The server
    /// may go on running.
    Rollup(Rollup),
}

#[derive(Debug, Args)]
pub(super) struct Rollup {
    /// The node's id, 66 hex digits.
    #[arg(value_name = "NODE")]
    node: NodeId,
    /// The node's network; needed where the node is here on several.
    #[arg(long, value_name = "NET")]
    network: Option<Network>,
    /// Where the server keeps everything [default: as for serve].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The PostgreSQL database, where the server keeps records in one.
    #[arg(
        long,
        value_name = "postgres://...",
        env = "BACKSTOP_SERVER_DATABASE",
        hide_env_values = true
    )]
    database: Option<DatabaseUrl>,
}

pub(super) async fn run(command: NodeCommand) -> anyhow::Result<()> {
    let NodeCommand::Rollup(rollup) = command;
    let now = SystemClock.now();
    let Rollup {
        node, network, data, ..
    } = rollup;
    let ordered = if let Some(url) = &rollup.database {
        postgres::operator::order_roll_up(url.expose(), node, network, now).await
    } else {
        let data = data.map_or_else(default_data_dir, Ok)?;
        sqlite::operator::order_roll_up(&database_in(&data), node, network, now).await
    };
    let account = ordered.context("no roll-up was ordered")?;
    let mut stdout = io::stdout();
    // Nobody has to read it.
    let _ = stdout
        .write_all(said(&account).as_bytes())
        .and_then(|()| stdout.flush());
    Ok(())
}

/// What will happen.
fn said(account: &Account) -> String {
    let Account {
        node, network, tail, ..
    } = account;
    let keep = Config::new(PathBuf::new()).history;
    format!(
        "A roll-up of {node} on {network} is ordered.
With its next record the node is asked for a new snapshot, which it uploads in the background while its backup goes on.
The log above its newest snapshot has {} records, {} bytes. Once the new snapshot is complete, what it supersedes stays as
long as the server's settings say (if nobody changed them, {} days and {} snapshots), never less than 24 hours.
",
        tail.records, tail.bytes, keep.days, keep.snapshots,
    )
}
