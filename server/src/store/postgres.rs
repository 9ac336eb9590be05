//! PostgreSQL: the store of any number of server processes.
//!
//! Every transaction that writes for an account locks its row first: the processes judge one after the other, each by what
//! the one before it committed (I3, I7, I8). Appends of different nodes that wait in one process commit together
//! (`committer`). Nothing rests on a session between two transactions: a pooler may stand in front.

mod accounts;
mod alarms;
mod append;
mod at_once;
mod beside;
mod cells;
mod chunks;
mod committer;
mod devices;
mod files;
mod gauges;
mod history;
mod known;
mod literal;
mod opening;
pub mod operator;
mod packs;
mod pages;
mod proofs;
mod reads;
mod scrub;
mod snapshots;
mod tail;
pub(in crate::store) mod tenants;
#[cfg(test)]
pub(in crate::store) mod tests;
mod transactions;

pub use beside::check_current;
pub(super) use cells::trouble;
pub use opening::OpenError;

use super::{
    AccountId, Append, Commit, GroupSizes, HistoryPolicy, Move, PackArrival, PackIndex, PackLoad, PutFiles,
    Refusal, Removal, SessionRequest, Store, StoreError, StoreId, StoredRecord, Terms, Word,
};
use async_trait::async_trait;
use backstop_protocol::{
    api::{AccountState, Appended, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    grant::SignedGrant,
    id::{AccessKey, ChunkId, PackId, ServerKey, SnapshotId},
};
use committer::Job;
use opening::{check_durable, check_usable, options, pool, prepare};
use rand_core::CryptoRng;
use sqlx::ConnectOptions as _;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};
use transactions::Database;

/// Connections that are open at most, beside the one that appends commit on.
const CONNECTIONS: u32 = 15;
/// How many appends may wait before callers wait to join them.
const QUEUE: usize = 1024;

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    id: StoreId,
    terms: Terms,
    groups: GroupSizes,
    database: Database,
    /// Of appends alone, so that they wait for nothing else.
    appends: Database,
    /// Closed once the store is closing.
    jobs: mpsc::Sender<Job>,
    /// `None` once the store is closing.
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl PostgresStore {
    /// Opens the database at `url` (`postgres://…`, 14 or later) and brings it up to date, one process at a time. It
    /// belongs to the server with the key `server`, which the first process writes into it. It judges by
    /// `terms`. `rng` names a new store.
    pub async fn open(
        url: &str,
        server: ServerKey,
        terms: Terms,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Result<Self, OpenError> {
        let mut new_id = [0; 16];
        rng.fill_bytes(&mut new_id);
        let options = options(url)?.disable_statement_logging();
        let mut connection = options.connect().await?;
        check_usable(&mut connection).await?;
        let applied = check_durable(&mut connection).await?;
        let id = prepare(&mut connection, new_id, server).await?;
        sqlx::Connection::close(connection).await?;
        let database = Database::new(pool(CONNECTIONS).connect_lazy_with(options.clone()), applied);
        let appends = Database::new(pool(1).connect_lazy_with(options), applied);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let groups = GroupSizes::default();
        let (own, shared) = (appends.keep(), database.clone());
        let committer = committer::start(queue, own, shared, terms.clone(), groups.clone());
        Ok(Self {
            id,
            terms,
            groups,
            database,
            appends,
            jobs,
            committer: Mutex::new(Some(committer)),
        })
    }
}

fn closing() -> StoreError {
    StoreError::Unavailable("the store does not write any more".to_owned())
}

#[async_trait]
impl Store for PostgresStore {
    fn id(&self) -> StoreId {
        self.id
    }

    async fn ping(&self) -> Result<(), StoreError> {
        if self.jobs.is_closed() {
            return Err(closing());
        }
        let mut connection = self.database.pool.acquire().await?;
        // Reading alone would hide that nothing can be written any more.
        match check_usable(&mut connection).await {
            Ok(()) => Ok(()),
            Err(OpenError::Database(error)) => Err(error.into()),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    async fn grants(&self, access_key: AccessKey) -> Result<Vec<SignedGrant>, StoreError> {
        self.database
            .read(&access_key, |connection, key| {
                Box::pin(reads::grants(connection, *key))
            })
            .await
    }

    async fn open_session(&self, request: SessionRequest) -> Result<(AccountId, AccountState), StoreError> {
        self.database
            .write((request, self.terms.clone()), |connection, (request, terms)| {
                Box::pin(accounts::open(connection, request, terms))
            })
            .await
    }

    async fn raise_grant_floor(&self, account: AccountId, floor: u64) -> Result<(), StoreError> {
        self.database
            .write((account, floor), |connection, (account, floor)| {
                Box::pin(accounts::raise_floor(connection, *account, *floor))
            })
            .await
    }

    async fn account(&self, account: AccountId, now: UnixMillis) -> Result<AccountState, StoreError> {
        self.database
            .read(
                &(account, &self.terms, now),
                |connection, (account, terms, now)| {
                    Box::pin(async move {
                        let found = accounts::load(connection, *account).await?;
                        if found.going {
                            return Err(Refusal::NotFound.into());
                        }
                        accounts::state(connection, &found, terms, *now).await
                    })
                },
            )
            .await
    }

    async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Append(Box::new(append), answer);
        self.jobs.send(job).await.map_err(|_| closing())?;
        answered.await.map_err(|_| closing())?
    }

    async fn records(
        &self,
        account: AccountId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.database
            .read(&(account, from, max_bytes), |connection, (account, from, max)| {
                Box::pin(reads::records(connection, *account, *from, *max))
            })
            .await
    }

    async fn register_pack(&self, arrival: PackArrival) -> Result<(), StoreError> {
        self.database
            .write((arrival, self.terms.clone()), |connection, (arrival, terms)| {
                Box::pin(chunks::register(connection, arrival, terms))
            })
            .await
    }

    async fn index_pack(&self, index: PackIndex) -> Result<(), StoreError> {
        self.database
            .write(index, |connection, index| {
                Box::pin(chunks::index(connection, index))
            })
            .await
    }

    async fn locate(
        &self,
        account: AccountId,
        ids: Vec<ChunkId>,
    ) -> Result<Vec<Option<ChunkPlace>>, StoreError> {
        self.database
            .read(&(account, ids), |connection, (account, ids)| {
                Box::pin(chunks::locate(connection, *account, ids))
            })
            .await
    }

    async fn commit_snapshot(&self, commit: Commit) -> Result<SnapshotInfo, StoreError> {
        self.database
            .write((commit, self.terms.clone()), |connection, (commit, terms)| {
                Box::pin(snapshots::commit(connection, commit, terms))
            })
            .await
    }

    async fn snapshots(&self, account: AccountId) -> Result<Vec<SnapshotInfo>, StoreError> {
        self.database
            .read(&account, |connection, account| {
                Box::pin(snapshots::listed(connection, *account))
            })
            .await
    }

    async fn manifest(
        &self,
        account: AccountId,
        snapshot: SnapshotId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.database
            .read(&(account, snapshot), |connection, (account, snapshot)| {
                Box::pin(snapshots::manifest(connection, *account, *snapshot))
            })
            .await
    }

    async fn hear(&self, word: Word) -> Result<AccountState, StoreError> {
        self.take_in(word).await
    }

    async fn accounts(&self, after: AccountId, most: usize) -> Result<Vec<AccountId>, StoreError> {
        self.database
            .read(&(after, most), |connection, (after, most)| {
                Box::pin(reads::accounts(connection, *after, *most))
            })
            .await
    }

    async fn drop_history(
        &self,
        account: AccountId,
        policy: &HistoryPolicy,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        self.database
            .write(
                (account, policy.clone(), now),
                |connection, (account, policy, now)| {
                    Box::pin(history::drop_some(connection, *account, policy, *now))
                },
            )
            .await
    }

    async fn drop_chunks(&self, account: AccountId, now: UnixMillis) -> Result<bool, StoreError> {
        let found = self
            .database
            .read(&(account, now), |connection, (account, now)| {
                Box::pin(packs::unneeded(connection, *account, *now))
            })
            .await?;
        if found.is_empty() {
            return Ok(false);
        }
        self.database
            .write((account, found, now), |connection, (account, found, now)| {
                Box::pin(packs::drop_chunks(connection, *account, found, *now))
            })
            .await
    }

    async fn pack_loads(&self, account: AccountId, now: UnixMillis) -> Result<Vec<PackLoad>, StoreError> {
        self.database
            .read(&(account, now), |connection, (account, now)| {
                Box::pin(packs::loads(connection, *account, *now))
            })
            .await
    }

    async fn chunks_in(&self, account: AccountId, pack: PackId) -> Result<Vec<ChunkId>, StoreError> {
        self.database
            .read(&(account, pack), |connection, (account, pack)| {
                Box::pin(packs::chunks_in(connection, *account, *pack))
            })
            .await
    }

    async fn move_chunks(&self, chunks: Move) -> Result<(), StoreError> {
        self.database
            .write(chunks, |connection, chunks| {
                Box::pin(packs::move_chunks(connection, chunks))
            })
            .await
    }

    async fn begin_removals(&self, account: AccountId, now: UnixMillis) -> Result<Vec<PackId>, StoreError> {
        self.database
            .write((account, now), |connection, (account, now)| {
                Box::pin(packs::begin_removals(connection, *account, *now))
            })
            .await
    }

    async fn hold_removal(
        &self,
        account: AccountId,
        pack: PackId,
    ) -> Result<Option<Box<dyn Removal>>, StoreError> {
        packs::hold(self.database.begin().await?, account, pack).await
    }

    async fn put_files(&self, files: PutFiles) -> Result<(), StoreError> {
        self.database
            .write((files, self.terms.clone()), |connection, (files, terms)| {
                Box::pin(files::put(connection, files, terms))
            })
            .await
    }

    async fn files(&self, account: AccountId, at: Option<UnixMillis>) -> Result<Option<Vec<u8>>, StoreError> {
        self.database
            .read(&(account, at), |connection, (account, at)| {
                Box::pin(files::at(connection, *account, *at))
            })
            .await
    }

    async fn drop_old_files(&self, account: AccountId, before: UnixMillis) -> Result<u64, StoreError> {
        self.database
            .write((account, before), |connection, (account, before)| {
                Box::pin(files::drop_old(connection, *account, *before))
            })
            .await
    }

    async fn close(&self) {
        let _ = self.jobs.send(Job::Close).await;
        if let Some(committer) = self.committer.lock().await.take()
            && committer.await.is_err()
        {
            tracing::error!("the database's committer broke off");
        }
        // Each waits for what is under way.
        self.appends.pool.close().await;
        self.database.pool.close().await;
    }
}
