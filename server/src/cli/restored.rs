//! `backstop-server restored`: an operator says that the data are a copy of an earlier time (I7).

use crate::{
    DatabaseUrl,
    data_dir::database_in,
    default_data_dir,
    store::{postgres, sqlite},
};
use anyhow::Context as _;
use backstop_protocol::clock::{Clock as _, SystemClock};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Restored {
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

/// Does it; what there is to say.
pub(super) async fn run(restored: Restored) -> anyhow::Result<String> {
    let now = SystemClock.now();
    let held = if let Some(url) = &restored.database {
        postgres::operator::mark_restored(url.expose(), now).await
    } else {
        let data = restored.data.map_or_else(default_data_dir, Ok)?;
        sqlite::operator::mark_restored(&database_in(&data), now).await
    };
    let held = held.context("nothing was marked")?;
    Ok(format!(
        "{held} node(s) are held: nothing is taken for any of them until its owner types `backstop adopt` there, or
`backstop restore` where the machine is gone. Reading goes on. Tell the owners: a node that runs halts at its next commit.
"
    ))
}
