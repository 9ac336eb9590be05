//! The databases that a server keeps its logs in: each started as a person would, and each with the bare insert to compare with.

use crate::{cluster::Cluster, servers::Server};
use anyhow::{Context, Result};
use rusqlite::OpenFlags;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{path::Path, str::FromStr as _, sync::OnceLock};
use tokio::runtime::Runtime;

/// The server's SQLite file in its data directory.
pub(super) const FILE: &str = "backstop.sqlite3";
/// As for a small installation; the rest as PostgreSQL comes, which flushes at each commit.
const SETTINGS: &str = "shared_buffers = '256MB'\nmin_wal_size = '960MB'";
/// Files of PostgreSQL's own log, 16 MiB each, that are there before anything is measured.
const LOG_FILES: usize = 56;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The server's own file.
    Sqlite,
    /// A real PostgreSQL, started for this run.
    Postgres,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    /// As it calls itself.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// The URL of a new, empty database in the one cluster of this process.
fn new_database() -> Result<String> {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = if let Some(cluster) = CLUSTER.get() {
        cluster
    } else {
        let cluster = Cluster::start_with(SETTINGS, []);
        fill_log(&cluster).context("PostgreSQL's log")?;
        CLUSTER.get_or_init(|| cluster)
    };
    Ok(cluster.url(&cluster.database()))
}

/// Brings the cluster to where one is that has run for a while: a checkpoint uses the files of its log again. Until then it makes one
/// after the other, and nobody commits for the tens of milliseconds that 16 MiB of zeros take.
fn fill_log(cluster: &Cluster) -> Result<()> {
    const FILE: &str = "SELECT pg_logical_emit_message(false, 'backstop', ''), pg_switch_wal()";
    let url = cluster.url(&cluster.database());
    runtime()?.block_on(async {
        let mut connection = connect(&url).await?;
        for _ in 0..LOG_FILES {
            sqlx::query(FILE).execute(&mut connection).await?;
        }
        sqlx::query("CHECKPOINT").execute(&mut connection).await?;
        Ok(())
    })
}

/// A server and the database that it alone uses.
pub struct Store {
    /// Which kind of database.
    pub kind: Kind,
    /// The server.
    pub server: Server,
    url: Option<String>,
}

impl Store {
    /// Starts a server with an empty database; all that is no PostgreSQL lies in `data`.
    pub fn start(kind: Kind, data: &Path, arguments: &[&str]) -> Result<Self> {
        let url = match kind {
            Kind::Sqlite => None,
            Kind::Postgres => Some(new_database()?),
        };
        let mut all = arguments.to_vec();
        if let Some(url) = &url {
            all.extend(["--database", url]);
        }
        let server = Server::start_on_with(data, &all)?;
        Ok(Self { kind, server, url })
    }

    /// Runs statements beside the server, in one transaction that nobody waits for a flush of.
    pub fn execute(&self, statements: &str) -> Result<()> {
        if let Some(url) = &self.url {
            let all = format!("BEGIN; SET LOCAL synchronous_commit = off; {statements}; COMMIT; ANALYZE");
            runtime()?.block_on(async {
                let mut connection = connect(url).await?;
                let all = sqlx::AssertSqlSafe(all);
                anyhow::Ok(sqlx::raw_sql(all).execute(&mut connection).await?)
            })?;
        } else {
            let file = rusqlite::Connection::open(self.server.data().join(FILE))?;
            file.execute_batch(&format!("PRAGMA synchronous = OFF; BEGIN; {statements}; COMMIT"))?;
            file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(())
    }
}

/// Reads a server's log beside it.
pub enum Log {
    /// From the file.
    Sqlite(rusqlite::Connection),
    /// From PostgreSQL.
    Postgres(Runtime, Box<PgConnection>),
}

impl Log {
    /// The log of `store`.
    pub fn open(store: &Store) -> Result<Self> {
        if let Some(url) = &store.url {
            let runtime = runtime()?;
            let connection = runtime.block_on(connect(url))?;
            return Ok(Self::Postgres(runtime, Box::new(connection)));
        }
        let path = store.server.data().join(FILE);
        let connection = rusqlite::Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        Ok(Self::Sqlite(
            connection.with_context(|| path.display().to_string())?,
        ))
    }

    /// The bytes of the newest record.
    pub fn newest(&mut self) -> Result<Vec<u8>> {
        const NEWEST: &str = "SELECT sealed FROM records ORDER BY account DESC, seq DESC LIMIT 1";
        Ok(match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(NEWEST)?;
                statement.query_row([], |row| row.get(0))?
            }
            Self::Postgres(runtime, connection) => {
                runtime.block_on(sqlx::query_scalar(NEWEST).fetch_one(&mut **connection))?
            }
        })
    }
}

/// A database with one log and one head, and nothing of ours.
pub enum BareDatabase {
    /// With the settings that make a commit durable.
    Sqlite(SqliteConnection),
    /// In the same cluster as the server's.
    Postgres(Box<PgConnection>),
}

const TABLES: &str = "
    CREATE TABLE records (seq INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
    CREATE TABLE heads (account INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
    INSERT INTO heads VALUES (1, 0);";

/// One row with these bytes and the row that says which is the newest, in one durable transaction.
macro_rules! insert {
    ($connection:expr, $seq:expr, $bytes:expr) => {{
        let mut transaction = $connection.begin().await?;
        sqlx::query("INSERT INTO records (seq, sealed) VALUES ($1, $2)")
            .bind($seq)
            .bind($bytes)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE heads SET seq = $1 WHERE account = 1")
            .bind($seq)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }};
}

impl BareDatabase {
    /// An empty one; a file lies in `scratch`.
    pub fn open(runtime: &Runtime, kind: Kind, scratch: &Path) -> Result<Self> {
        Ok(match kind {
            Kind::Sqlite => {
                let options = SqliteConnectOptions::new()
                    .filename(scratch.join("bare.sqlite3"))
                    .create_if_missing(true)
                    .page_size(4096)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .disable_statement_logging();
                let mut connection = runtime.block_on(options.connect())?;
                runtime.block_on(sqlx::raw_sql(TABLES).execute(&mut connection))?;
                Self::Sqlite(connection)
            }
            Kind::Postgres => {
                let mut connection = runtime.block_on(connect(&new_database()?))?;
                let tables = sqlx::AssertSqlSafe(TABLES.replace("BLOB", "BYTEA"));
                runtime.block_on(sqlx::raw_sql(tables).execute(&mut connection))?;
                Self::Postgres(Box::new(connection))
            }
        })
    }

    /// Record `seq`, durable.
    pub async fn insert(&mut self, seq: i32, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Sqlite(connection) => insert!(connection, seq, bytes),
            Self::Postgres(connection) => insert!(connection, seq, bytes),
        }
        Ok(())
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

async fn connect(url: &str) -> Result<PgConnection> {
    let options = PgConnectOptions::from_str(url)?.disable_statement_logging();
    options.connect().await.context("PostgreSQL")
}
