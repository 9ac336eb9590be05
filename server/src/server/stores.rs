//! The database and the packs that the configuration names.

use super::ServerError;
use crate::{
    config::Config,
    data_dir::{DataDir, Sharing},
    packs::{Bucket, BucketPacks, DirectoryPacks, PackStore},
    store::{
        PostgresStore, SqliteStore, Store, StoreId,
        moving::{Database, may_serve},
        postgres, sqlite,
    },
};
use backstop_protocol::{clock::UnixMillis, session::IdentitySecret};
use rand_core::CryptoRng;
use std::{path::Path, sync::Arc};

pub(super) fn sharing(config: &Config) -> Sharing {
    match config.database {
        None => Sharing::Alone,
        Some(_) => Sharing::Together,
    }
}

/// The store, brought up to date where that is allowed.
pub(super) async fn open_store(
    config: &Config,
    data: &DataDir,
    identity: &IdentitySecret,
    rng: &mut (dyn CryptoRng + Send),
) -> Result<Arc<dyn Store>, ServerError> {
    let terms = config.terms();
    if let Some(url) = &config.database {
        if !config.migrate {
            postgres::check_current(url.expose()).await?;
        }
        let key = identity.server_key();
        let store = PostgresStore::open(url.expose(), key, terms, rng).await?;
        may_serve(&Database::Url(url.expose().to_owned())).await?;
        return Ok(Arc::new(store));
    }
    let file = data.database();
    let failed = |file: &Path, cause| ServerError::Store {
        file: file.to_owned(),
        cause,
    };
    if !config.migrate {
        let checked = sqlite::check_current(&file).await;
        checked.map_err(|cause| failed(&file, cause))?;
    }
    let store = SqliteStore::open(&file, config.database_limit, terms, rng).await;
    let store = store.map_err(|cause| failed(&file, cause))?;
    may_serve(&Database::File(file)).await?;
    Ok(Arc::new(store))
}

/// The packs of a store, where the configuration says that they lie.
pub(super) async fn open_packs(
    bucket: Option<&Bucket>,
    data: &DataDir,
    sharing: Sharing,
    store: StoreId,
    process: u64,
    now: UnixMillis,
) -> Result<Arc<dyn PackStore>, ServerError> {
    if let Some(bucket) = bucket {
        let packs = BucketPacks::open(bucket, store, process).await;
        let bucket = bucket.url.clone();
        return Ok(Arc::new(
            packs.map_err(|cause| ServerError::Bucket { bucket, cause })?,
        ));
    }
    let dir = data.packs();
    let packs = match sharing {
        Sharing::Alone => DirectoryPacks::open(&dir),
        Sharing::Together => DirectoryPacks::open_shared(&dir, process, now),
    };
    Ok(Arc::new(
        packs.map_err(|cause| ServerError::Packs { dir, cause })?,
    ))
}
