//! The one thread that writes. It takes one job, and with an append everything of its kind that already waits: under
//! load the disk's own pace makes the groups, without any timer.
//!
//! It has a thread of its own because a job is a dialogue with the database's thread: among a server's tasks each
//! answer of the database would wait for its turn.

use super::{
    accounts,
    alarms::{self, AlarmJob},
    append::{self, GROUP_MAX},
    checkpoints::{Checkpoints, checkpoint},
    chunks, files, history,
    known::Known,
    packs, proofs, scrub,
    settings::Settings,
    snapshots, tenants,
};
use crate::store::{
    AccountId, Append, Commit, GroupSizes, HistoryPolicy, Leaving, Move, PackArrival, PackIndex, PutFiles,
    SessionRequest, StoreError, Terms, Watched, Word, group::GROUP_BYTES,
};
use backstop_protocol::{
    api::{AccountState, Appended, SnapshotInfo},
    clock::UnixMillis,
    id::PackId,
    removal::RemovalWord,
};
use rusqlite::Connection;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use std::{
    io,
    thread::{self, JoinHandle},
};
use tokio::sync::{mpsc, oneshot};

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;
type WaitingAppend = (Box<Append>, Answer<Appended>);

/// One transaction to be run.
pub(super) enum Job {
    Append(Box<Append>, Answer<Appended>),
    Open(Box<SessionRequest>, Answer<(AccountId, AccountState)>),
    RaiseFloor(AccountId, u64, Answer<()>),
    Register(PackArrival, Answer<()>),
    Index(Box<PackIndex>, Answer<()>),
    Commit(Box<Commit>, Answer<SnapshotInfo>),
    Word(Word, Answer<AccountState>),
    DropHistory(AccountId, HistoryPolicy, UnixMillis, Answer<bool>),
    DropChunks(AccountId, Vec<i64>, UnixMillis, Answer<bool>),
    Move(Box<Move>, Answer<()>),
    BeginRemovals(AccountId, UnixMillis, Answer<Vec<PackId>>),
    EndRemoval(AccountId, PackId, Answer<()>),
    /// Finish what waits, take nothing more, and end.
    Close,
    /// Move what is left of SQLite's own log.
    Checkpoint,
    PutFiles(Box<PutFiles>, Answer<()>),
    DropOldFiles(AccountId, UnixMillis, Answer<u64>),
    MarkPack(AccountId, PackId, Option<UnixMillis>, Answer<bool>),
    BeginScrub(UnixMillis, UnixMillis, Answer<Option<AccountId>>),
    HearOwner(AccountId, Box<RemovalWord>, UnixMillis, Answer<AccountState>),
    Watch(AccountId, UnixMillis, Answer<Watched>),
    RemoveSome(AccountId, UnixMillis, Answer<Leaving>),
    Alarm(AlarmJob),
}

/// Starts the thread. It runs jobs until [`Job::Close`], or until every sender is gone, and nothing waits.
pub(super) fn start(
    jobs: mpsc::Receiver<Job>,
    connection: SqliteConnection,
    settings: Settings,
    checkpoints: Checkpoints,
    terms: Terms,
    groups: GroupSizes,
) -> io::Result<JoinHandle<()>> {
    // Neither sockets nor timers: it waits for other threads alone.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || {
            let writer = Writer {
                here: Here {
                    settings: settings.clone(),
                    open: None,
                },
                settings,
                terms,
                groups,
                connection: Some(connection),
                checkpoints,
            };
            runtime.block_on(run(jobs, writer));
        })
}

async fn run(mut jobs: mpsc::Receiver<Job>, mut writer: Writer) {
    let mut held = None;
    loop {
        let job = match held.take() {
            Some(job) => Some(job),
            None => jobs.recv().await,
        };
        match job {
            None => break,
            // What is in the queue comes out of it still.
            Some(Job::Close) => jobs.close(),
            Some(Job::Append(append, answer)) => {
                let mut group = vec![(append, answer)];
                held = gather(&mut jobs, &mut group);
                writer.append(group).await;
            }
            Some(Job::Checkpoint) => writer.checkpoint().await,
            Some(other) => {
                writer.alone(other).await;
                writer.checkpoints.worked();
            }
        }
    }
    writer.here.open = None;
    writer.checkpoints.end();
    if let Some(connection) = writer.connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

/// Adds the appends that wait already; returns the first job that is none.
fn gather(jobs: &mut mpsc::Receiver<Job>, group: &mut Vec<WaitingAppend>) -> Option<Job> {
    let mut bytes = 0;
    while group.len() < GROUP_MAX && bytes < GROUP_BYTES {
        match jobs.try_recv() {
            Ok(Job::Append(append, answer)) => {
                bytes += append.sealed.len();
                group.push((append, answer));
            }
            Ok(other) => return Some(other),
            Err(_) => break,
        }
    }
    None
}

/// A connection in this thread, for what has many statements or comes often.
struct Here {
    settings: Settings,
    /// With what is known on it. `None` at first and after a failure: a connection whose transaction broke is not trusted again.
    open: Option<(Connection, Known)>,
}

impl Here {
    /// Runs `work`, which is a transaction and ends it.
    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection, &mut Known) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Each connection counts for itself what others commit, so that what is known goes with it.
        let (mut connection, mut known) = match self.open.take() {
            Some(open) => open,
            None => (self.settings.connect()?, Known::default()),
        };
        let done = work(&mut connection, &mut known).await?;
        self.open = Some((connection, known));
        Ok(done)
    }
}

struct Writer {
    settings: Settings,
    terms: Terms,
    groups: GroupSizes,
    /// For appends and for the places of chunks.
    here: Here,
    /// The connection of everything else; `None` after a failure.
    connection: Option<SqliteConnection>,
    checkpoints: Checkpoints,
}

impl Writer {
    /// Commits a group. Where the database refuses it as a whole (a record too many for the disk), each of the group
    /// is tried by itself, so that none suffers for another.
    async fn append(&mut self, group: Vec<WaitingAppend>) {
        let (appends, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let outcomes = match self.commit_group(&appends).await {
            Ok(outcomes) => outcomes
                .into_iter()
                .map(|outcome| outcome.map_err(StoreError::from))
                .collect(),
            Err(error) if appends.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::warn!(%error, appends = appends.len(), "a group did not commit; trying each by itself");
                let mut outcomes = Vec::with_capacity(appends.len());
                for append in appends.chunks(1) {
                    let outcome = self.commit_group(append).await;
                    outcomes.extend(match outcome {
                        Ok(one) => one
                            .into_iter()
                            .map(|o| o.map_err(StoreError::from))
                            .collect::<Vec<_>>(),
                        Err(error) => vec![Err(error)],
                    });
                }
                outcomes
            }
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // The caller may be gone; the record is there all the same, and is found when it is sent again (I4).
            let _ = answer.send(outcome);
        }
    }

    async fn commit_group(&mut self, appends: &[Box<Append>]) -> Result<Vec<append::Outcome>, StoreError> {
        let terms = &self.terms;
        let group =
            async |connection: &mut _, known: &mut _| append::group(connection, appends, terms, known).await;
        let outcomes = self.here.run(group).await?;
        self.groups.committed(appends.len());
        self.checkpoints.appended(appends.len());
        Ok(outcomes)
    }

    async fn connect(&mut self) -> Result<SqliteConnection, StoreError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        Ok(self.settings.options().connect().await?)
    }

    async fn checkpoint(&mut self) {
        if let Some(connection) = &mut self.connection
            && let Err(error) = checkpoint(connection).await
        {
            tracing::warn!(%error, "the database's log was not moved into its file");
        }
    }

    async fn alone(&mut self, job: Job) {
        let terms = self.terms.clone();
        match job {
            Job::Append(append, answer) => self.append(vec![(append, answer)]).await,
            Job::Close | Job::Checkpoint => {}
            Job::Open(request, answer) => {
                let done =
                    self.transaction(async |connection| accounts::open(connection, &request, &terms).await);
                let _ = answer.send(done.await);
            }
            Job::RaiseFloor(account, floor, answer) => {
                let done = self
                    .transaction(async |connection| accounts::raise_floor(connection, account, floor).await);
                let _ = answer.send(done.await);
            }
            Job::Register(arrival, answer) => {
                let done =
                    self.transaction(async |connection| chunks::register(connection, &arrival, &terms).await);
                let _ = answer.send(done.await);
            }
            Job::Index(index, answer) => {
                let work = async |connection: &mut _, _: &mut _| chunks::index(connection, &index);
                let _ = answer.send(self.here.run(work).await);
            }
            Job::Commit(commit, answer) => {
                let done =
                    self.transaction(async |connection| snapshots::commit(connection, &commit, &terms).await);
                let _ = answer.send(done.await);
            }
            Job::Word(word, answer) => {
                let done = self.transaction(async |connection| proofs::take(connection, &word, &terms).await);
                let _ = answer.send(done.await);
            }
            Job::DropHistory(account, policy, now, answer) => {
                let done = self.transaction(async |connection| {
                    history::drop_some(connection, account, &policy, now).await
                });
                let _ = answer.send(done.await);
            }
            Job::DropChunks(account, found, now, answer) => {
                let done = self.transaction(async |connection| {
                    packs::drop_chunks(connection, account, &found, now).await
                });
                let _ = answer.send(done.await);
            }
            Job::Move(chunks, answer) => {
                let work = async |connection: &mut _, _: &mut _| packs::move_chunks(connection, &chunks);
                let _ = answer.send(self.here.run(work).await);
            }
            Job::BeginRemovals(account, now, answer) => {
                let done = self
                    .transaction(async |connection| packs::begin_removals(connection, account, now).await);
                let _ = answer.send(done.await);
            }
            Job::EndRemoval(account, pack, answer) => {
                let done =
                    self.transaction(async |connection| packs::end_removal(connection, account, pack).await);
                let _ = answer.send(done.await);
            }
            Job::PutFiles(put, answer) => {
                let done = self.transaction(async |connection| files::put(connection, &put, &terms).await);
                let _ = answer.send(done.await);
            }
            Job::HearOwner(account, word, now, answer) => {
                let done = self.transaction(async |connection| {
                    let account = tenants::hear_owner(connection, account, &word, &terms, now).await?;
                    accounts::state(connection, &account, &terms, now).await
                });
                let _ = answer.send(done.await);
            }
            Job::Watch(account, now, answer) => {
                let done = self
                    .transaction(async |connection| tenants::watch(connection, account, &terms, now).await);
                let _ = answer.send(done.await);
            }
            Job::RemoveSome(account, now, answer) => {
                let done =
                    self.transaction(async |connection| tenants::remove_some(connection, account, now).await);
                let _ = answer.send(done.await);
            }
            Job::Alarm(job) => self.alarm(job).await,
            Job::DropOldFiles(account, before, answer) => {
                let done =
                    self.transaction(async |connection| files::drop_old(connection, account, before).await);
                let _ = answer.send(done.await);
            }
            Job::MarkPack(account, pack, at, answer) => {
                let done =
                    self.transaction(async |connection| scrub::mark(connection, account, pack, at).await);
                let _ = answer.send(done.await);
            }
            Job::BeginScrub(before, now, answer) => {
                let done = self.transaction(async |connection| scrub::begin(connection, before, now).await);
                let _ = answer.send(done.await);
            }
        }
    }

    async fn alarm(&mut self, job: AlarmJob) {
        match job {
            AlarmJob::Keep(alarm, answer) => {
                let done = self.transaction(async |connection| alarms::keep(connection, &alarm).await);
                let _ = answer.send(done.await);
            }
            AlarmJob::Take(now, until, answer) => {
                let done = self.transaction(async |connection| alarms::take(connection, now, until).await);
                let _ = answer.send(done.await);
            }
            AlarmJob::Free(alarm, at, answer) => {
                let done = self.transaction(async |connection| alarms::free(connection, alarm, at).await);
                let _ = answer.send(done.await);
            }
            AlarmJob::End(alarm, answer) => {
                let done = self.transaction(async |connection| alarms::end(connection, alarm).await);
                let _ = answer.send(done.await);
            }
        }
    }

    /// Runs `work` in a transaction that is committed where it succeeds and rolled back where it does not. Success
    /// is returned after the commit alone (I1).
    async fn transaction<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connect().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await?;
        let done = work(&mut connection).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        match (sqlx::query(end).execute(&mut connection).await, done) {
            (Ok(_), done) => {
                self.connection = Some(connection);
                done
            }
            (Err(error), Ok(_)) => Err(error.into()),
            // SQLite rolls back by itself when the disk is full; the reason counts, not the second rollback.
            (Err(_), Err(reason)) => Err(reason),
        }
    }
}
