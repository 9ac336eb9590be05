//! SQLite's own log (WAL), moved into the file beside the writing.
//!
//! Left to SQLite, a commit does that every so many pages, and all appends wait for the pages and two flushes. Here a connection
//! of its own moves what is there and flushes the file, as often as it takes until little is left; that little the writer moves
//! itself, between two groups: the log begins anew only where nobody has added to it meanwhile.

use super::writer::Job;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    fs::File,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;

/// Appends after which the log is looked at, each of some four pages: so few that no flush of the file holds up one of the log
/// for long.
const APPENDS: usize = 512;
/// As how many appends any other job counts: it may write many pages.
const OTHER_JOB: usize = 64;
/// Pages from which on the log is to begin anew.
const LONG: i64 = 4096;
/// Pages that the writer moves itself: they take it less than a millisecond, and one flush.
const LITTLE: i64 = 128;
/// How often what came meanwhile is moved before the writer is told all the same: it comes faster than it can be moved.
const PASSES: usize = 4;

/// Counts what the writer writes, and tells the thread when to look.
pub(super) struct Checkpoints {
    /// Whether there is something to look at; closed at the end.
    nudge: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    appends: usize,
    /// The database. Closing a file lets go of this process's locks on it, SQLite's among them: it is closed after SQLite's own.
    _file: Arc<File>,
}

impl Checkpoints {
    /// Starts the thread, which ends with what this returns. `jobs` leads to the writer.
    pub(super) fn start(options: SqliteConnectOptions, jobs: mpsc::WeakSender<Job>) -> io::Result<Self> {
        let file = Arc::new(File::open(options.get_filename())?);
        let database = file.clone();
        let (nudge, nudges) = mpsc::channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let thread = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || runtime.block_on(run(nudges, &options, &database, &jobs)))?;
        Ok(Self {
            nudge: Some(nudge),
            thread: Some(thread),
            appends: 0,
            _file: file,
        })
    }

    /// So many appends were committed.
    pub(super) fn appended(&mut self, appends: usize) {
        self.appends += appends;
        if self.appends < APPENDS {
            return;
        }
        self.appends = 0;
        if let Some(nudge) = &self.nudge {
            // One that waits is enough.
            let _ = nudge.try_send(());
        }
    }

    /// Another job was done.
    pub(super) fn worked(&mut self) {
        self.appended(OTHER_JOB);
    }

    /// Lets the thread finish and let go of the file.
    pub(super) fn end(&mut self) {
        self.nudge = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that moves the database's log broke off");
        }
    }
}

async fn run(
    mut nudges: mpsc::Receiver<()>,
    options: &SqliteConnectOptions,
    file: &File,
    jobs: &mpsc::WeakSender<Job>,
) {
    let mut connection = None;
    while nudges.recv().await.is_some() {
        if let Err(error) = look(&mut connection, options, file, jobs).await {
            // The writer moves it itself when it is longer still.
            tracing::warn!(%error, "the database's log was not moved into its file");
            connection = None;
        }
    }
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

async fn look(
    connection: &mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
    file: &File,
    jobs: &mpsc::WeakSender<Job>,
) -> Result<(), sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(options.connect().await?),
    };
    let mut before = 0;
    for _ in 0..PASSES {
        let pages = checkpoint(connection).await?;
        // SQLite does that where all is moved, which the writer would wait for.
        file.sync_data()?;
        if pages < LONG {
            return Ok(());
        }
        // What was there when this pass began is moved; what came since then, the next one sees.
        if pages - before <= LITTLE {
            break;
        }
        before = pages;
    }
    if let Some(jobs) = jobs.upgrade() {
        // Where the store is closing, its last connection moves everything.
        let _ = jobs.send(Job::Checkpoint).await;
    }
    Ok(())
}

/// Moves what can be moved while others read and write, durably: the log is flushed before, and the file behind it (I1). Returns how
/// many pages the log had when that began.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_one(connection)
        .await?;
    row.try_get("log")
}
