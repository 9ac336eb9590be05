//! The bare parts of an append: a flush, an HTTP call, a durable insert, each with nothing around it.

use super::{
    bare_server::BareServer,
    database::{BareDatabase, Kind},
};
use anyhow::{Context, Result, ensure};
use backstop_protocol::api;
use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// The three, ready to be timed.
pub struct Bare {
    runtime: Runtime,
    file: File,
    client: reqwest::Client,
    url: String,
    database: BareDatabase,
    seq: i32,
}

impl Bare {
    /// Files go to `scratch`, which is made, rows to a database of this kind, calls to `server`.
    pub fn new(kind: Kind, scratch: &Path, server: &BareServer) -> Result<Self> {
        std::fs::create_dir_all(scratch)?;
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
        let database = BareDatabase::open(&runtime, kind, scratch)?;
        Ok(Self {
            runtime,
            file: File::create(scratch.join("bare.log"))?,
            client,
            url: format!("http://{}{}", server.address(), api::RECORDS),
            database,
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
        let began = Instant::now();
        self.runtime
            .block_on(self.database.insert(self.seq, bytes))
            .context("the bare insert")?;
        Ok(began.elapsed())
    }
}
