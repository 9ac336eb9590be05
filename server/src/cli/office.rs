//! Where an operator's commands find the database, and how they say what they found.

use super::print;
use crate::{DatabaseUrl, data_dir::database_in, default_data_dir, store::Office};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Where the server keeps everything, and how to answer.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Where the server keeps everything [default: as for serve].
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// The PostgreSQL database, where the server keeps records in one.
    #[arg(
        long,
        value_name = "postgres://...",
        env = "BACKSTOP_SERVER_DATABASE",
        hide_env_values = true
    )]
    pub(super) database: Option<DatabaseUrl>,
    /// Answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Place {
    pub(super) async fn open(&self) -> anyhow::Result<Office> {
        let office = if let Some(url) = &self.database {
            Office::of_url(url.expose()).await
        } else {
            let data = self.data.clone().map_or_else(default_data_dir, Ok)?;
            Office::of_file(&database_in(&data)).await
        };
        Ok(office?)
    }

    /// Says it, as a person or as a program wants it.
    pub(super) fn say(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(value)?));
        } else {
            print(&text());
        }
        Ok(())
    }
}
