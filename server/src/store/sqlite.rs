//! One SQLite file: the store of a server that stands alone.
//!
//! All writing is one thread's (`writer`), with a connection for appends and one for everything else: there is nothing to wait for
//! but the disk, appends that wait commit together, and a caller that hangs up interrupts nothing. Reading goes through a
//! pool of its own, which WAL lets read beside the writer.

mod accounts;
mod alarms;
mod append;
mod beside;
mod cells;
mod checkpoints;
pub(super) use cells::trouble;
mod chunks;
mod devices;
mod files;
mod gauges;
mod history;
mod known;
mod opening;
pub mod operator;
mod packs;
mod pages;
mod proofs;
mod reads;
mod scrub;
mod settings;
mod snapshots;
mod tail;
pub(in crate::store) mod tenants;
#[cfg(test)]
mod tests;
mod writer;

use super::{
    AccountId, Append, Commit, GroupSizes, HistoryPolicy, Move, PackArrival, PackIndex, PackLoad, PutFiles,
    Removal, SessionRequest, Store, StoreError, StoreId, StoredRecord, Terms, Word,
};
use async_trait::async_trait;
use backstop_protocol::{
    api::{AccountState, Appended, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    grant::SignedGrant,
    id::{AccessKey, ChunkId, PackId, SnapshotId},
};
pub use beside::{OpenBeside, check_current};
use checkpoints::Checkpoints;
pub use opening::OpenError;
use opening::{check_durable, name};
use rand_core::CryptoRng;
use settings::Settings;
use sqlx::{
    ConnectOptions as _, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::SqlitePoolOptions,
};
use std::{
    fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, thread::JoinHandle, time::Duration,
};
use tokio::sync::{Mutex, mpsc, oneshot};
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
/// Bytes of a database page.
const PAGE: u32 = 4096;

/// A store in one SQLite file.
pub struct SqliteStore {
    id: StoreId,
    terms: Terms,
    groups: GroupSizes,
    reads: SqlitePool,
    /// Closed once the store is closing.
    jobs: mpsc::Sender<Job>,
    /// `None` once the store is closing.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the file at `path`, which is made where it is missing, its owner's alone, and brings it up to date. `limit` is how many bytes
    /// the file may grow to; without one the disk decides. It judges by `terms`. `rng` names a new store.
    pub async fn open(
        path: &Path,
        limit: Option<u64>,
        terms: Terms,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Result<Self, OpenError> {
        let mut new_id = [0; 16];
        rng.fill_bytes(&mut new_id);
        let settings = Settings::new(path, limit);
        let options = settings.options();
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
        let groups = GroupSizes::default();
        let checkpoints = Checkpoints::start(options, jobs.downgrade())?;
        let writer = writer::start(
            queue,
            connection,
            settings,
            checkpoints,
            terms.clone(),
            groups.clone(),
        )?;
        Ok(Self {
            id,
            terms,
            groups,
            reads,
            jobs,
            writer: Mutex::new(Some(writer)),
        })
    }

    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        submit(&self.jobs, job).await
    }
}

async fn submit<T>(
    jobs: &mpsc::Sender<Job>,
    job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
) -> Result<T, StoreError> {
    let (answer, answered) = oneshot::channel();
    jobs.send(job(answer)).await.map_err(|_| closing())?;
    answered.await.map_err(|_| closing())?
}

/// A pack that is being removed.
struct Marked {
    jobs: mpsc::Sender<Job>,
    account: AccountId,
    pack: PackId,
}

#[async_trait]
impl Removal for Marked {
    async fn end(self: Box<Self>) -> Result<(), StoreError> {
        submit(&self.jobs, |answer| {
            Job::EndRemoval(self.account, self.pack, answer)
        })
        .await
    }
}

fn closing() -> StoreError {
    StoreError::Unavailable("the store does not write any more".to_owned())
}

#[async_trait]
impl Store for SqliteStore {
    fn id(&self) -> StoreId {
        self.id
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Reading alone would hide that nothing can be written any more.
        if self.jobs.is_closed() {
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
        reads::account(&self.reads, account, &self.terms, now).await
    }

    async fn append(&self, append: Append) -> Result<Appended, StoreError> {
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

    async fn register_pack(&self, arrival: PackArrival) -> Result<(), StoreError> {
        self.submit(|answer| Job::Register(arrival, answer)).await
    }

    async fn index_pack(&self, index: PackIndex) -> Result<(), StoreError> {
        let PackIndex {
            account, pack, now, ..
        } = index;
        let mut rest = index.chunks.as_slice();
        // What is entered of a pack counts by itself: one that is cut off half-way is sent again.
        loop {
            let (piece, others) = rest.split_at(rest.len().min(chunks::PIECE));
            let chunks = piece.to_vec();
            let index = PackIndex {
                account,
                pack,
                chunks,
                now,
            };
            self.submit(|answer| Job::Index(Box::new(index), answer)).await?;
            rest = others;
            if rest.is_empty() {
                return Ok(());
            }
        }
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

    async fn hear(&self, word: Word) -> Result<AccountState, StoreError> {
        self.submit(|answer| Job::Word(word, answer)).await
    }

    async fn accounts(&self, after: AccountId, most: usize) -> Result<Vec<AccountId>, StoreError> {
        reads::accounts(&self.reads, after, most).await
    }

    async fn drop_history(
        &self,
        account: AccountId,
        policy: &HistoryPolicy,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let policy = policy.clone();
        self.submit(|answer| Job::DropHistory(account, policy, now, answer))
            .await
    }

    async fn drop_chunks(&self, account: AccountId, now: UnixMillis) -> Result<bool, StoreError> {
        let found = {
            let mut connection = self.reads.acquire().await?;
            packs::unneeded(&mut connection, account, now).await?
        };
        if found.is_empty() {
            return Ok(false);
        }
        self.submit(|answer| Job::DropChunks(account, found, now, answer))
            .await
    }

    async fn pack_loads(&self, account: AccountId, now: UnixMillis) -> Result<Vec<PackLoad>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        packs::loads(&mut connection, account, now).await
    }

    async fn chunks_in(&self, account: AccountId, pack: PackId) -> Result<Vec<ChunkId>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        packs::chunks_in(&mut connection, account, pack).await
    }

    async fn move_chunks(&self, chunks: Move) -> Result<(), StoreError> {
        self.submit(|answer| Job::Move(Box::new(chunks), answer)).await
    }

    async fn begin_removals(&self, account: AccountId, now: UnixMillis) -> Result<Vec<PackId>, StoreError> {
        self.submit(|answer| Job::BeginRemovals(account, now, answer))
            .await
    }

    async fn hold_removal(
        &self,
        account: AccountId,
        pack: PackId,
    ) -> Result<Option<Box<dyn Removal>>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        // No other process has this file, and this one looks after an account in one place.
        let marked = packs::is_marked(&mut connection, account, pack).await?;
        let jobs = self.jobs.clone();
        Ok(marked.then(|| -> Box<dyn Removal> { Box::new(Marked { jobs, account, pack }) }))
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
        // The writer finishes what waits and ends. It lets go of the file last, so that what is in the write-ahead log
        // goes into it as far as nobody else holds it.
        self.reads.close().await;
        let _ = self.jobs.send(Job::Close).await;
        let Some(writer) = self.writer.lock().await.take() else {
            return;
        };
        let ended = tokio::task::spawn_blocking(move || writer.join());
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!("the database's writer broke off");
        }
    }
}
