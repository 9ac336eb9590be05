//! Transactions: the one way in which the database is talked to, so that nothing rests on the session between two of them
//! and a pooler may stand in front.

use super::{
    cells::{conflicts, in_the_way},
    opening::CONNECTION_LIFE,
};
use crate::store::StoreError;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::PgRow,
    raw_sql,
};
use std::{pin::Pin, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// How often a transaction is run that others get in the way of.
const ATTEMPTS: u32 = 8;
/// Rest before the second attempt, which doubles with each.
const REST: Duration = Duration::from_millis(5);
/// How long a transaction may take; the largest commits of snapshots take seconds. Where the network swallows what is
/// sent, nothing else would end it.
const LONGEST: Duration = Duration::from_mins(5);
/// All questions of a reader see one state.
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// How a transaction that writes begins, where the server waits for a standby to apply what is committed.
const WRITE_APPLIED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL synchronous_commit = remote_apply;
    SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";
/// And elsewhere. Said each time, so that no change of the configuration takes it away (I1). Each statement sees what
/// was committed before it: once the account's row is locked, nothing of the account is old.
const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on;
    SET LOCAL lock_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '60s'";

/// What is done inside a transaction.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// A transaction's work on a request; run again from the start where another transaction was in the way.
pub(super) type Job<R, T> = for<'c> fn(&'c mut PgConnection, &'c R) -> Work<'c, T>;

/// Connections, and how transactions begin on them.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) pool: PgPool,
    applied: bool,
}

impl Database {
    /// `applied`: the configuration waits for standbys to apply what is committed, and so does each transaction.
    pub(super) fn new(pool: PgPool, applied: bool) -> Self {
        Self { pool, applied }
    }

    /// How a transaction that writes begins.
    fn write_begin(&self) -> &'static str {
        if self.applied { WRITE_APPLIED } else { WRITE }
    }

    /// Reads in one consistent view.
    pub(super) async fn read<R: Sync, T>(&self, request: &R, job: Job<R, T>) -> Result<T, StoreError> {
        self.once(READ, request, job).await
    }

    /// Writes, to the end, whether or not the caller waits for it. Success is returned after the commit alone (I1).
    pub(super) async fn write<R, T>(&self, request: R, job: Job<R, T>) -> Result<T, StoreError>
    where
        R: Send + Sync + 'static,
        T: Send + 'static,
    {
        let database = self.clone();
        let running = tokio::spawn(async move { database.attempts(&request, job).await });
        running
            .await
            .unwrap_or_else(|broken| Err(StoreError::Failed(Box::new(broken))))
    }

    /// Writes as long as somebody waits for it.
    pub(super) async fn attempts<R: Sync, T>(&self, request: &R, job: Job<R, T>) -> Result<T, StoreError> {
        let mut rest = REST;
        for _ in 1..ATTEMPTS {
            match self.once(self.write_begin(), request, job).await {
                Err(error) if conflicts(&error) => {
                    tracing::debug!(%error, "a transaction was in the way; it is run again");
                }
                done => return done,
            }
            sleep(rest).await;
            rest *= 2;
        }
        let last = self.once(self.write_begin(), request, job).await;
        last.map_err(|error| {
            if in_the_way(&error) {
                StoreError::Unavailable("other transactions were in the way too often".to_owned())
            } else {
                error
            }
        })
    }

    /// A transaction that stays open until it is told to end.
    pub(super) async fn begin(&self) -> Result<sqlx::Transaction<'static, Postgres>, StoreError> {
        Ok(self.pool.begin_with(self.write_begin()).await?)
    }

    /// The same pool, one of whose connections is kept from one transaction to the next.
    pub(super) fn keep(&self) -> Kept {
        Kept {
            database: self.clone(),
            connection: None,
        }
    }

    async fn once<R: Sync, T>(
        &self,
        begin: &'static str,
        request: &R,
        job: Job<R, T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.pool.acquire().await?;
        if let Ok(done) = timeout(LONGEST, transaction(&mut connection, begin, request, job)).await {
            return done;
        }
        // Nobody knows what it is doing. Its end rolls back what is not committed.
        drop(connection.detach());
        Err(StoreError::Unavailable("the database took too long".to_owned()))
    }
}

/// A connection that one task keeps: whoever takes one from the pool and gives it back asks each time whether it is still good,
/// which is two ways to the database and back.
pub(super) struct Kept {
    database: Database,
    connection: Option<(PoolConnection<Postgres>, Instant)>,
}

impl Kept {
    /// What a statement by itself is to say of its commit.
    pub(super) fn synchronous_commit(&self) -> &'static str {
        if self.database.applied {
            "remote_apply"
        } else {
            "on"
        }
    }

    /// Writes by one statement, in one way to the database and back. By itself in its message it is a transaction, whose commit comes
    /// before the statement's end is told, and whatever arrives is read to its end (I1). `None` where that failed, so that nobody knows
    /// what became of it: [`Self::attempts`] finds out.
    pub(super) async fn at_once(&mut self, statement: String) -> Option<Vec<PgRow>> {
        let (mut connection, since) = self.take().await?;
        let statement = raw_sql(AssertSqlSafe(statement));
        let done = timeout(LONGEST, statement.fetch_all(&mut *connection)).await;
        match done {
            Ok(Ok(rows)) => {
                self.connection = Some((connection, since));
                return Some(rows);
            }
            Ok(Err(error)) => tracing::debug!(%error, "a statement failed; it is tried another way"),
            Err(_) => tracing::debug!("a statement took too long; it is tried another way"),
        }
        // It may have a transaction open, whose end rolls it back.
        drop(connection.detach());
        None
    }

    /// As [`Database::attempts`], on a connection that was found good.
    pub(super) async fn attempts<R: Sync, T>(
        &mut self,
        request: &R,
        job: Job<R, T>,
    ) -> Result<T, StoreError> {
        self.connection = None;
        self.database.attempts(request, job).await
    }

    /// The one that is kept, unless its life is over, or another.
    async fn take(&mut self) -> Option<(PoolConnection<Postgres>, Instant)> {
        match self.connection.take() {
            Some(kept) if kept.1.elapsed() < CONNECTION_LIFE => Some(kept),
            _ => Some((self.database.pool.acquire().await.ok()?, Instant::now())),
        }
    }
}

async fn transaction<R: Sync, T>(
    connection: &mut PoolConnection<Postgres>,
    begin: &'static str,
    request: &R,
    job: Job<R, T>,
) -> Result<T, StoreError> {
    let mut transaction = connection.begin_with(begin).await?;
    let done = job(&mut transaction, request).await;
    match done {
        Ok(value) => {
            transaction.commit().await?;
            Ok(value)
        }
        Err(error) => {
            // A connection that is lost has rolled back; the reason counts.
            let _ = transaction.rollback().await;
            Err(error)
        }
    }
}
