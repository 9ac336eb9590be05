//! Where a server keeps what it keeps, for commands that work beside it.

use super::settings::Storage;
use crate::{
    DatabaseUrl,
    data_dir::{database_in, packs_in},
    default_data_dir,
    packs::{Bucket, BucketPacks, DirectoryPacks, PackStore},
    store::{PostgresStore, SqliteStore, Store, StoreId, moving::Database},
};
use anyhow::Context as _;
use clap::Args;
use rand_core::CryptoRng;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

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
    /// The data directory.
    pub(super) fn data(&self) -> anyhow::Result<PathBuf> {
        Ok(self.data.clone().map_or_else(default_data_dir, Ok)?)
    }

    /// The database.
    pub(super) fn database(&self) -> anyhow::Result<Database> {
        Ok(match &self.database {
            Some(url) => Database::Url(url.expose().to_owned()),
            None => Database::File(database_in(&self.data()?)),
        })
    }

    /// The bucket that packs are in, if they are in one.
    pub(super) fn bucket(&self) -> anyhow::Result<Option<Bucket>> {
        self.storage.bucket()
    }

    /// Opens what is there, beside a server that may be running. Nothing is made, and nothing is brought up to date.
    pub(super) async fn open(
        &self,
        rng: &mut (dyn CryptoRng + Send),
    ) -> anyhow::Result<(Arc<dyn Store>, Arc<dyn PackStore>)> {
        let store: Arc<dyn Store> = match self.database()? {
            Database::Url(url) => {
                let opened = PostgresStore::open_beside(&url, rng).await;
                Arc::new(opened.context("cannot use the PostgreSQL database")?)
            }
            Database::File(file) => {
                let opened = SqliteStore::open_beside(&file, rng).await;
                Arc::new(opened.with_context(|| format!("cannot use the database {}", file.display()))?)
            }
        };
        let packs = open_packs(self.bucket()?.as_ref(), &self.data()?, store.id(), rng).await?;
        Ok((store, packs))
    }
}

/// Opens the packs of a store that is there.
pub(super) async fn open_packs(
    bucket: Option<&Bucket>,
    data: &Path,
    store: StoreId,
    rng: &mut (dyn CryptoRng + Send),
) -> anyhow::Result<Arc<dyn PackStore>> {
    if let Some(bucket) = bucket {
        let opened = BucketPacks::open(bucket, store, rng.next_u64()).await;
        return Ok(Arc::new(
            opened.with_context(|| format!("cannot use the bucket {}", bucket.url))?,
        ));
    }
    let dir = packs_in(data);
    let opened = DirectoryPacks::beside(&dir, rng.next_u64());
    Ok(Arc::new(opened.with_context(|| {
        format!(
            "cannot use the pack directory {}; is it mounted, or does the server keep packs in a bucket (--packs)?",
            dir.display()
        )
    })?))
}
