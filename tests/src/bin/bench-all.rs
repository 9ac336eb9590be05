//! `cargo bench-all`: what a commit, a byte and a restore cost, side by side with the bare parts.
//!
//! The recorded trace of a real node goes through the real plugin to the real server. Before each batch the same bytes
//! are flushed to a file, and posted to an HTTP server that does nothing, in this process: so all three see the same
//! machine at the same time.
#![expect(clippy::print_stdout, reason = "a program that a person looks at")]

use anyhow::{Context, Result};
use backstop_tests::{
    binaries::binary,
    compare::assert_equal,
    figures::{Times, ratio, size, time},
    fixtures::{Fixtures, RecordedBatch},
    lightningd::{Lightningd, Options, replay_trace},
    node::{Node, restored_database},
    plugin::Program,
    replayer::Replayer,
    servers::Server,
};
use rusqlite::Connection;
use std::{
    fs::File,
    io::Write,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Payments of the simulated node, where there is no trace.
const PAYMENTS: u64 = 300;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let (server, node, mut bare) = (Server::start()?, Node::new(1)?, Bare::start()?);
    node.setup(&server.url())?;
    let mut options = Options::new(Program::new(binary("backstop")?), 1);
    // The plugin and the server flush; the node's own flushes are the same without a backup.
    options.wallet.fsync = false;
    let (hook, sql) = match Fixtures::find()? {
        Some(fixtures) => {
            let id = node.node_id()?.0;
            println!(
                "The recorded trace, through plugin and server, with the bare parts before each batch\u{2026}"
            );
            let mut sql = Sql::default();
            let times = replay_trace(&node, &options, fixtures.batches(&id)?, |batch| {
                sql.add(batch);
                bare.measure(&batch.writes.concat().into_bytes());
            })?;
            sql.bare_replay = replay(fixtures.batches(&id)?)?;
            (times, sql)
        }
        None => simulated(&node, &options, &mut bare)?,
    };
    if let Some(error) = bare.failed.take() {
        return Err(error.context("the bare parts"));
    }
    let log = log_bytes(&node)?;
    let restore = restores(&node, &server)?;
    report(hook, &bare, &sql, &server, log, restore)
}

/// What went through.
#[derive(Default)]
struct Sql {
    batches: u64,
    bytes: u64,
    /// The same statements into an empty database, nothing flushed.
    bare_replay: Duration,
}

impl Sql {
    fn add(&mut self, batch: &RecordedBatch) {
        self.batches += 1;
        self.bytes += batch.sql_bytes();
    }
}

/// Without a trace: payments of the simulated node, whose batches are as long as real ones.
fn simulated(node: &Node, options: &Options, bare: &mut Bare) -> Result<(Vec<Duration>, Sql)> {
    println!("The simulated node's payments, through plugin and server\u{2026}");
    let mut lightningd = Lightningd::start(node, options)?;
    for _ in 0..PAYMENTS {
        lightningd.pay()?;
        bare.measure(&[0; 4600]);
    }
    let times = lightningd.hook_times().to_vec();
    let (batches, bytes) = (times.len() as u64, lightningd.sql_bytes());
    lightningd.stop(0)?;
    Ok((
        times,
        Sql {
            batches,
            bytes,
            bare_replay: Duration::ZERO,
        },
    ))
}

/// The bare parts of a backup: a flush, a round trip.
struct Bare {
    runtime: Runtime,
    client: reqwest::Client,
    url: String,
    _directory: tempfile::TempDir,
    file: File,
    flushes: Vec<Duration>,
    posts: Vec<Duration>,
    failed: Option<anyhow::Error>,
}

impl Bare {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let url = format!("http://{}/", listener.local_addr()?);
        let take = axum::routing::post(async |body: axum::body::Bytes| body.len().to_string());
        let app = axum::Router::new()
            .route("/", take)
            .layer(axum::extract::DefaultBodyLimit::disable());
        runtime.spawn(async move { axum::serve(listener, app).await });
        let directory = tempfile::tempdir()?;
        let file = File::create(directory.path().join("flushed"))?;
        Ok(Self {
            runtime,
            client: reqwest::Client::builder().no_proxy().build()?,
            url,
            _directory: directory,
            file,
            flushes: Vec::new(),
            posts: Vec::new(),
            failed: None,
        })
    }

    fn measure(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_measure(bytes) {
            self.failed.get_or_insert(error);
        }
    }

    fn try_measure(&mut self, bytes: &[u8]) -> Result<()> {
        let started = Instant::now();
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.flushes.push(started.elapsed());
        let request = self.client.post(&self.url).body(bytes.to_vec());
        let started = Instant::now();
        self.runtime
            .block_on(async { request.send().await?.error_for_status()?.bytes().await })?;
        self.posts.push(started.elapsed());
        Ok(())
    }
}

/// The trace into an empty database by SQLite alone.
fn replay(batches: impl Iterator<Item = Result<RecordedBatch>>) -> Result<Duration> {
    let directory = tempfile::tempdir()?;
    let batches: Vec<RecordedBatch> = batches.collect::<Result<_>>()?;
    let mut replayer = Replayer::new(Connection::open(directory.path().join("replayed"))?)?;
    let started = Instant::now();
    for batch in &batches {
        replayer.apply(&batch.writes)?;
    }
    Ok(started.elapsed())
}

/// Sealed bytes of the log, as the server counts them.
fn log_bytes(node: &Node) -> Result<u64> {
    let said = node.command(&["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&said.stdout).context(said.stderr)?;
    status
        .pointer("/servers/0/account/log_bytes")
        .and_then(serde_json::Value::as_u64)
        .context("no log_bytes")
}

/// Restores three times, each into an empty directory, and compares.
fn restores(node: &Node, server: &Server) -> Result<Times> {
    let elsewhere = tempfile::tempdir()?;
    let restore = |to: &Path| -> Result<Duration> {
        let started = Instant::now();
        node.restore(&server.url(), to)?.success()?;
        let took = started.elapsed();
        assert_equal(&restored_database(to, node.network()), &node.database())?;
        Ok(took)
    };
    (0..3)
        .map(|round| restore(&elsewhere.path().join(format!("restored-{round}"))))
        .collect()
}

fn report(
    hook: Vec<Duration>,
    bare: &Bare,
    sql: &Sql,
    server: &Server,
    log: u64,
    restore: Times,
) -> Result<()> {
    let hook: Times = hook.into_iter().collect();
    let flush: Times = bare.flushes.iter().copied().collect();
    let post: Times = bare.posts.iter().copied().collect();
    println!(
        "\nA commit ({} batches)           median        p99",
        hook.count()
    );
    let row = |name: &str, times: &Times| {
        println!(
            "  {name:<28} {:>10} {:>10}",
            time(times.median()),
            time(times.percentile(99))
        );
    };
    row("inside the hook", &hook);
    row("bare flush of the same bytes", &flush);
    row("bare POST of the same bytes", &post);
    let compare = |name: &str, percent: usize| {
        let parts = flush.percentile(percent) + post.percentile(percent);
        let times = |part: Duration| ratio(hook.percentile(percent).as_nanos(), part.as_nanos());
        println!(
            "  hook / flush {}, hook / POST {}, hook / (flush + POST) {}   ({name})",
            times(flush.percentile(percent)),
            times(post.percentile(percent)),
            times(parts)
        );
    };
    compare("median", 50);
    compare("p99", 99);

    let disk = server.bytes_on_disk()?;
    println!("\nBytes ({} of SQL in {} batches)", size(sql.bytes), sql.batches);
    let per_byte = |bytes: u64| ratio(u128::from(bytes), u128::from(sql.bytes));
    println!(
        "  sealed log                   {:>10}   {} per byte of SQL",
        size(log),
        per_byte(log)
    );
    println!(
        "  the server's whole directory {:>10}   {} per byte of SQL",
        size(disk),
        per_byte(disk)
    );
    println!(
        "  sealed log per batch         {:>10}",
        size(log / sql.batches.max(1))
    );

    println!("\nA restore of all of it (equal, row by row)");
    println!(
        "  median of {}                  {:>10}",
        restore.count(),
        time(restore.median())
    );
    if sql.bare_replay > Duration::ZERO {
        println!("  SQLite alone, same statements {:>9}", time(sql.bare_replay));
        println!(
            "  restore / SQLite alone {}",
            ratio(restore.median().as_nanos(), sql.bare_replay.as_nanos())
        );
    }
    Ok(())
}
