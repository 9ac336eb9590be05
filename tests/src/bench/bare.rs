//! The bare parts of an append: a flush, an HTTP call, a durable insert, each with nothing around it.

use super::bare_server::BareServer;
use anyhow::{Context, Result, ensure};
use backstop_protocol::api;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

const TABLES: &str = "
    CREATE TABLE records (seq INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
    CREATE TABLE heads (account INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
    INSERT INTO heads VALUES (1, 0);";

/// The three, ready to be timed.
pub struct Bare {
    runtime: Runtime,
    file: File,
    client: reqwest::Client,
    url: String,
    sqlite: SqliteConnection,
    seq: i64,
}

impl Bare {
    /// Files go to `scratch`, calls to `server`.
    pub fn new(scratch: &Path, server: &BareServer) -> Result<Self> {
        // As the plugin's.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // A second call finds the provider installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .build()?;
        let options = SqliteConnectOptions::new()
            .filename(scratch.join("bare.sqlite3"))
            .create_if_missing(true)
            .page_size(4096)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let sqlite = runtime.block_on(async {
            let mut connection = options.connect().await?;
            sqlx::raw_sql(TABLES).execute(&mut connection).await?;
            anyhow::Ok(connection)
        })?;
        Ok(Self {
            runtime,
            file: File::create(scratch.join("bare.log"))?,
            client,
            url: format!("http://{}{}", server.address(), api::RECORDS),
            sqlite,
            seq: 0,
        })
    }

    /// An append to a file and its flush.
    pub fn flush(&mut self, bytes: &[u8]) -> Result<Duration> {
        let began = Instant::now();
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        Ok(began.elapsed())
    }

    /// A request with these bytes, and its whole answer.
    pub fn post(&self, bytes: &[u8]) -> Result<Duration> {
        let body = bytes.to_vec();
        let began = Instant::now();
        let answer = self.runtime.block_on(async {
            let answer = self.client.post(&self.url).body(body).send().await?;
            answer.error_for_status()?.bytes().await
        })?;
        let time = began.elapsed();
        ensure!(!answer.is_empty(), "an empty answer");
        Ok(time)
    }

    /// One row with these bytes and the row that says which is the newest, in one durable transaction.
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Duration> {
        self.seq += 1;
        let (seq, sqlite) = (self.seq, &mut self.sqlite);
        let began = Instant::now();
        self.runtime
            .block_on(async {
                let mut transaction = sqlite.begin().await?;
                sqlx::query("INSERT INTO records (seq, sealed) VALUES (?, ?)")
                    .bind(seq)
                    .bind(bytes)
                    .execute(&mut *transaction)
                    .await?;
                sqlx::query("UPDATE heads SET seq = ? WHERE account = 1")
                    .bind(seq)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await
            })
            .context("the bare insert")?;
        Ok(began.elapsed())
    }
}
