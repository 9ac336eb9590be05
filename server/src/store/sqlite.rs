//! One SQLite file: the store of a server that stands alone.
//!
//! All writing goes through one connection, owned by one task (`writer`): there is nothing to wait for but the
//! disk, appends that wait commit together, and a caller that hangs up interrupts nothing. Reading goes through a
//! pool of its own, which WAL lets read beside the writer.

mod accounts;
mod append;
mod cells;
mod chunks;
mod files;
mod reads;
mod snapshots;
#[cfg(test)]
mod tests;
mod writer;

use super::{
    AccountId, Append, Commit, PackIndex, PutFiles, SessionRequest, Store, StoreError, StoreId, StoredRecord,
};
use async_trait::async_trait;
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    grant::SignedGrant,
    head::Head,
    id::{AccessKey, ChunkId, SnapshotId},
};
use rand_core::CryptoRng;
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};
use writer::Job;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a reader waits for one of them.
const READER_WAIT: Duration = Duration::from_secs(5);
/// How long to wait where another process (an operator's command) is writing.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// How many writes may wait before callers wait to join them.
const QUEUE: usize = 1024;
/// To how many bytes the log of SQLite's own is cut back once it was longer.
const WAL_KEPT: &str = "67108864";
/// Bytes of a database page.
const PAGE: u32 = 4096;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database was written by a newer program.
    #[error(
        "the database was written by a newer backstop-server (it knows migration {0}); run that version or a later one"
    )]
    Newer(i64),
    /// The migrations could not be applied.
    #[error("cannot bring the database up to date")]
    Migrate(#[source] MigrateError),
    /// SQLite does not promise what an acknowledgement rests on (I1).
    #[error(
        "SQLite does not keep what is committed here ({setting} is {found}); move the data to a local disk"
    )]
    NotDurable {
        /// The setting that is wrong.
        setting: &'static str,
        /// What it is.
        found: String,
    },
    /// The file cannot be made or written.
    #[error("cannot write to it")]
    File(#[from] io::Error),
    /// SQLite itself failed.
    #[error("cannot open the database")]
    Database(#[from] sqlx::Error),
}

/// A store in one SQLite file.
pub struct SqliteStore {
    id: StoreId,
    reads: SqlitePool,
    /// `None` once the store is closing.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the file at `path`, which is made where it is missing, its owner's alone, and brings it up to date. `limit` is how many bytes
    /// the file may grow to; without one the disk decides. `rng` names a new store.
    pub async fn open(
        path: &Path,
        limit: Option<u64>,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Result<Self, OpenError> {
        let mut new_id = [0; 16];
        rng.fill_bytes(&mut new_id);
        let mut options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .page_size(PAGE)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_WAIT)
            .pragma("journal_size_limit", WAL_KEPT)
            .disable_statement_logging();
        if let Some(limit) = limit {
            options = options.pragma("max_page_count", (limit / u64::from(PAGE)).max(1).to_string());
        }
        // SQLite gives its other files the mode of this one.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)?;
        let mut connection = options.connect().await?;
        check_durable(&mut connection).await?;
        MIGRATIONS
            .run(&mut connection)
            .await
            .map_err(|error| match error {
                MigrateError::VersionMissing(version) => OpenError::Newer(version),
                other => OpenError::Migrate(other),
            })?;
        let id = name(&mut connection, new_id).await?;
        let reads = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(READER_WAIT)
            .test_before_acquire(false)
            .connect_with(options.clone().read_only(true).create_if_missing(false))
            .await?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(writer::run(queue, connection, options));
        Ok(Self {
            id,
            reads,
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(writer)),
        })
    }

    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let jobs = self.jobs.lock().await.clone().ok_or_else(closing)?;
        let (answer, answered) = oneshot::channel();
        jobs.send(job(answer)).await.map_err(|_| closing())?;
        answered.await.map_err(|_| closing())?
    }
}

fn closing() -> StoreError {
    StoreError::Unavailable("the store does not write any more".to_owned())
}

/// SQLite's word for what I1 rests on; it may fall back silently, on a file system that has no shared memory.
async fn check_durable(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let journal_mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await?;
    if journal_mode != "wal" {
        return Err(OpenError::NotDurable {
            setting: "journal_mode",
            found: journal_mode,
        });
    }
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await?;
    if synchronous != 2 {
        return Err(OpenError::NotDurable {
            setting: "synchronous",
            found: synchronous.to_string(),
        });
    }
    Ok(())
}

async fn name(connection: &mut SqliteConnection, new_id: [u8; 16]) -> Result<StoreId, OpenError> {
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO store (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING")
        .bind(new_id.as_slice())
        .execute(&mut *transaction)
        .await?;
    let id: Vec<u8> = sqlx::query("SELECT id FROM store")
        .fetch_one(&mut *transaction)
        .await?
        .try_get(0)?;
    transaction.commit().await?;
    let id = id
        .try_into()
        .map_err(|_| sqlx::Error::Decode("the store's id".into()))?;
    Ok(StoreId(id))
}

#[async_trait]
impl Store for SqliteStore {
    fn id(&self) -> StoreId {
        self.id
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Reading alone would hide that nothing can be written any more.
        if self
            .jobs
            .lock()
            .await
            .as_ref()
            .is_none_or(mpsc::Sender::is_closed)
        {
            return Err(closing());
        }
        reads::ping(&self.reads).await
    }

    async fn grants(&self, access_key: AccessKey) -> Result<Vec<SignedGrant>, StoreError> {
        reads::grants(&self.reads, access_key).await
    }

    async fn open_session(&self, request: SessionRequest) -> Result<(AccountId, AccountState), StoreError> {
        self.submit(|answer| Job::Open(Box::new(request), answer)).await
    }

    async fn raise_grant_floor(&self, account: AccountId, floor: u64) -> Result<(), StoreError> {
        self.submit(|answer| Job::RaiseFloor(account, floor, answer))
            .await
    }

    async fn account(&self, account: AccountId, now: UnixMillis) -> Result<AccountState, StoreError> {
        reads::account(&self.reads, account, now).await
    }

    async fn append(&self, append: Append) -> Result<Head, StoreError> {
        self.submit(|answer| Job::Append(Box::new(append), answer)).await
    }

    async fn records(
        &self,
        account: AccountId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        reads::records(&self.reads, account, from, max_bytes).await
    }

    async fn index_pack(&self, index: PackIndex) -> Result<(), StoreError> {
        self.submit(|answer| Job::Index(Box::new(index), answer)).await
    }

    async fn locate(
        &self,
        account: AccountId,
        ids: Vec<ChunkId>,
    ) -> Result<Vec<Option<ChunkPlace>>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        chunks::locate(&mut connection, account, &ids).await
    }

    async fn commit_snapshot(&self, commit: Commit) -> Result<SnapshotInfo, StoreError> {
        self.submit(|answer| Job::Commit(Box::new(commit), answer)).await
    }

    async fn snapshots(&self, account: AccountId) -> Result<Vec<SnapshotInfo>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        snapshots::listed(&mut connection, account).await
    }

    async fn manifest(
        &self,
        account: AccountId,
        snapshot: SnapshotId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        snapshots::manifest(&mut connection, account, snapshot).await
    }

    async fn put_files(&self, files: PutFiles) -> Result<(), StoreError> {
        self.submit(|answer| Job::PutFiles(Box::new(files), answer)).await
    }

    async fn files(&self, account: AccountId, at: Option<UnixMillis>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        files::at(&mut connection, account, at).await
    }

    async fn drop_old_files(&self, account: AccountId, before: UnixMillis) -> Result<u64, StoreError> {
        self.submit(|answer| Job::DropOldFiles(account, before, answer))
            .await
    }

    async fn close(&self) {
        // Without senders the writer finishes what waits and ends. It lets go of the file last, so that what is in the
        // write-ahead log goes into it as far as nobody else holds it.
        drop(self.jobs.lock().await.take());
        self.reads.close().await;
        let writer = self.writer.lock().await.take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the database's writer broke off");
        }
    }
}
