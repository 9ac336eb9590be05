//! Where a server keeps what it keeps, for commands that work beside it.

use super::settings::Storage;
use crate::{
    DatabaseUrl,
    data_dir::{database_in, packs_in},
    default_data_dir,
    packs::{BucketPacks, DirectoryPacks, PackStore},
    store::{PostgresStore, SqliteStore, Store},
};
use anyhow::Context as _;
use clap::Args;
use rand_core::CryptoRng;
use std::{path::PathBuf, sync::Arc};

/// The same flags as for `serve`, from the same file and environment.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Where the server keeps everything [default: as for serve].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The PostgreSQL database, where the server keeps records in one.
    #[arg(long, value_name = "postgres://...", hide_env_values = true)]
    database: Option<DatabaseUrl>,
    #[command(flatten)]
    storage: Storage,
}

impl Place {
    /// Opens what is there, beside a server that may be running. Nothing is made, and nothing is brought up to date.
    pub(super) async fn open(
        &self,
        rng: &mut (dyn CryptoRng + Send),
    ) -> anyhow::Result<(Arc<dyn Store>, Arc<dyn PackStore>)> {
        let data = self.data.clone().map_or_else(default_data_dir, Ok)?;
        let store: Arc<dyn Store> = if let Some(url) = &self.database {
            let opened = PostgresStore::open_beside(url.expose(), rng).await;
            Arc::new(opened.context("cannot use the PostgreSQL database")?)
        } else {
            let file = database_in(&data);
            let opened = SqliteStore::open_beside(&file, rng).await;
            Arc::new(opened.with_context(|| format!("cannot use the database {}", file.display()))?)
        };
        let packs: Arc<dyn PackStore> = if let Some(bucket) = self.storage.bucket()? {
            let opened = BucketPacks::open(&bucket, store.id(), rng.next_u64()).await;
            Arc::new(opened.with_context(|| format!("cannot use the bucket {}", bucket.url))?)
        } else {
            let dir = packs_in(&data);
            let opened = DirectoryPacks::beside(&dir, rng.next_u64());
            Arc::new(opened.with_context(|| {
                format!(
                    "cannot use the pack directory {}; is it mounted, or does the server keep packs in a bucket (--packs)?",
                    dir.display()
                )
            })?)
        };
        Ok((store, packs))
    }
}
