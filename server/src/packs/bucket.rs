//! Packs as objects of S3-compatible storage: `<prefix>/<store>/<account>/<pack>`.
//!
//! The store's own name is part of every object's: two databases over one bucket never take each other's packs for theirs.
//! Storage answers a `PUT` once the object is durable; every request is signed over the hash of its body, so that nothing
//! else than what was sent can have been stored.

use super::{Bucket, PackError, PackRange, PackStore, StoredPack};
use crate::store::{AccountId, StoreId};
use async_trait::async_trait;
use backstop_protocol::id::PackId;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use std::{io, time::Duration};

/// How often a request is sent again that may succeed then.
const RETRIES: usize = 3;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Packs in one bucket, of one database.
#[derive(Clone)]
pub struct BucketPacks {
    objects: AmazonS3,
    /// The same without attempts of its own: see [`PackStore::remove`].
    once: AmazonS3,
    root: Path,
    /// What this process's probe is called.
    process: u64,
}

impl BucketPacks {
    /// Reaches the bucket, and proves that objects can be written, read and removed there. `store` is the database whose packs
    /// these are; `process` a random number of this process.
    pub async fn open(bucket: &Bucket, store: StoreId, process: u64) -> Result<Self, PackError> {
        // A second call finds the provider installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = format!("{}/{}", bucket.url.prefix, hex::encode(store.0));
        let packs = Self {
            objects: connect(bucket, RETRIES)?,
            once: connect(bucket, 0)?,
            root: Path::from(root),
            process,
        };
        packs.probe().await?;
        Ok(packs)
    }

    fn account(&self, account: AccountId) -> Path {
        self.root.clone().join(account.to_string())
    }

    fn path(&self, account: AccountId, pack: PackId) -> Path {
        self.account(account).join(pack.to_string())
    }

    async fn read(&self, path: &Path, range: Option<PackRange>) -> Result<Option<Bytes>, Error> {
        let options = GetOptions {
            range: range.map(|part| GetRange::Bounded(bounds(part))),
            ..GetOptions::default()
        };
        let got = match self.objects.get_opts(path, options).await {
            Ok(got) => got,
            // A bucket that is gone says nothing of a pack.
            Err(Error::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        got.bytes().await.map(Some)
    }
}

fn bounds(part: PackRange) -> std::ops::Range<u64> {
    let start = u64::from(part.offset);
    start..start + u64::from(part.length)
}

fn connect(bucket: &Bucket, retries: usize) -> Result<AmazonS3, PackError> {
    let options = ClientOptions::new()
        .with_timeout(bucket.timeout)
        .with_connect_timeout(CONNECT.min(bucket.timeout));
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(options)
        .with_retry(RetryConfig {
            max_retries: retries,
            // Each attempt has its own end; this one bounds all of them together.
            retry_timeout: bucket.timeout.saturating_mul(2),
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(50),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
        })
        // Storage that speaks less than all of S3 knows the single removal.
        .with_disable_bulk_delete(true)
        .with_bucket_name(&bucket.url.bucket);
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder
            .with_allow_http(endpoint.starts_with("http://"))
            .with_endpoint(endpoint);
    }
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some(keys) = &bucket.keys {
        builder = builder
            .with_access_key_id(&keys.id)
            .with_secret_access_key(&keys.secret);
    }
    Ok(builder.build()?)
}

#[async_trait]
impl PackStore for BucketPacks {
    async fn put(&self, account: AccountId, pack: PackId, bytes: Bytes) -> Result<(), PackError> {
        self.objects.put(&self.path(account, pack), bytes.into()).await?;
        Ok(())
    }

    async fn get(
        &self,
        account: AccountId,
        pack: PackId,
        range: Option<PackRange>,
    ) -> Result<Option<Bytes>, PackError> {
        let path = self.path(account, pack);
        let read = self.read(&path, range).await;
        let Some(part) = range else {
            return Ok(read?);
        };
        if let Ok(Some(bytes)) = &read
            && bytes.len() as u64 == u64::from(part.length)
        {
            return Ok(read?);
        }
        // The service says in several ways that a part does not lie within; the length says it in one.
        let bytes = match self.objects.head(&path).await {
            Ok(meta) => meta.size,
            Err(Error::NotFound { .. }) => return Ok(read?),
            Err(error) => return Err(error.into()),
        };
        if bounds(part).end > bytes {
            return Err(PackError::OutOfRange(bytes));
        }
        match read? {
            None => Ok(None),
            Some(_) => Err(PackError::Failed(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    async fn remove(&self, account: AccountId, pack: PackId) -> Result<(), PackError> {
        match self.once.delete(&self.path(account, pack)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, PackError> {
        let found = self.objects.list_with_delimiter(Some(&self.root)).await?;
        let number = |path: &Path| Some(AccountId(path.filename()?.parse().ok()?));
        Ok(found.common_prefixes.iter().filter_map(number).collect())
    }

    async fn list(&self, account: AccountId) -> Result<Vec<StoredPack>, PackError> {
        let mut found = Vec::new();
        let within = self.account(account);
        let mut objects = self.objects.list(Some(&within));
        while let Some(object) = objects.try_next().await? {
            if let Some(Ok(pack)) = object.location.filename().map(str::parse) {
                found.push(StoredPack {
                    pack,
                    bytes: object.size,
                });
            }
        }
        Ok(found)
    }

    async fn probe(&self) -> Result<(), PackError> {
        let path = self.root.clone().join(format!("probe-{:016x}", self.process));
        let probe = Bytes::from_static(b"backstop");
        self.objects.put(&path, probe.clone().into()).await?;
        let back = self.read(&path, None).await?;
        if back != Some(probe) {
            let what = "what was written does not come back";
            return Err(PackError::Failed(io::Error::other(what)));
        }
        Ok(self.objects.delete(&path).await?)
    }
}

impl From<Error> for PackError {
    fn from(error: Error) -> Self {
        match error {
            // Neither passes by itself, but an operator can end both, and the sender shall try again.
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                Self::Unavailable(explain(&error))
            }
            Error::Generic { .. } | Error::NotFound { .. } => Self::Unavailable(explain(&error)),
            other => Self::Failed(io::Error::other(other)),
        }
    }
}

/// An error with its causes, each once, in one line. The service's own words may be a page of XML.
fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(why) = cause {
        let why_text = why.to_string();
        if !text.contains(&why_text) {
            text.push_str(": ");
            text.push_str(&why_text);
        }
        cause = why.source();
    }
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(500).collect()
}

#[cfg(test)]
mod tests;
