//! The process that lightningd starts.
//!
//! One loop, one batch at a time: lightningd stands still while its hook runs, so the loop does nothing else then but
//! watch for the end of its input. Nothing here asks lightningd anything on a path that an answer waits for: that
//! would stop the node for good (CLN reference 2.4).
//!
//! `frame` → `message` → `batch` → (`opening`, once a run) → `writer` → [`crate::record`] → [`crate::remote`]

mod batch;
mod bridge;
mod files;
mod follower;
mod frame;
mod halt;
pub(crate) mod input;
mod judge;
mod message;
mod newest;
mod opening;
mod outside;
mod patience;
mod recover;
mod room;
mod servers;
mod siblings;
mod spool;
pub(crate) mod stdio;
mod taker;
mod undrained;
mod upload;
mod watch;
mod writer;

pub(crate) use batch::predecessor;
pub(crate) use halt::Utc;
pub(crate) use outside::{Seen, look, newest_run, newest_version};
pub(crate) use watch::unprotected;

use crate::{
    directory::{Directory, Lock, Witness},
    node::{Ambient, Node},
    random::SharedRng,
};
use batch::versions;
use halt::Halted;
use input::{Incoming, Input};
use message::{Init, Message, RawBatch};
use recover::Recovery;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use stdio::Level;
use tokio::time::{Instant, MissedTickBehavior};
use writer::Writer;

/// How often the witness is written while batches come.
const WITNESS_EVERY: Duration = Duration::from_secs(5);
/// How often the loop looks around after `shutdown`.
const LEAVE_CHECK: Duration = Duration::from_millis(200);
/// How long after `shutdown`, and after the last batch, the plugin stays although no other plugin lives.
const LEAVE_QUIET: Duration = Duration::from_secs(2);
/// How long it stays at most: lightningd cuts plugins off after 30 s.
const LEAVE_LATEST: Duration = Duration::from_secs(25);
/// How long the end waits for the shadow.
const SETTLE: Duration = Duration::from_secs(2);

/// Runs the plugin until lightningd closes its standard input, which ends it with success, or until another machine
/// takes the node over. `network_dir` is the directory in which lightningd started it.
pub fn run(
    network_dir: PathBuf,
    clock: Arc<dyn backstop_protocol::clock::Clock>,
    rng: SharedRng,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            stdio::log(
                Level::Error,
                &format!("backstop cannot start: {error}. The node must not run without it."),
            );
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let input = match Input::of_process() {
            Ok(input) => input,
            Err(error) => {
                stdio::log(Level::Error, &format!("backstop cannot read its input: {error}"));
                return ExitCode::FAILURE;
            }
        };
        ignore_signals();
        let plugin = Plugin::new(network_dir, Ambient { clock, rng }, input);
        // Too large for the stack.
        Box::pin(plugin.run()).await
    });
    // Threads that write to a disk may still be at it; they have nobody left to tell.
    runtime.shutdown_background();
    code
}

/// systemd signals the whole group: lightningd decides when its plugin ends, by closing the pipe. Installing a
/// handler is what takes the default action away.
fn ignore_signals() {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ] {
        // Where a handler cannot be installed the signal ends us as before, which a restart heals (I5).
        let _ = signal(kind);
    }
}

struct Plugin {
    network_dir: PathBuf,
    ambient: Ambient,
    input: Input,
    /// What came while a batch waited.
    waiting: VecDeque<Incoming>,
    recovery: Recovery,
    /// Taken at `getmanifest` where the recovery needed it; goes to the writer.
    lock: Option<Lock>,
    state: State,
    /// The last head that was acknowledged, and the last one that was written down.
    acknowledged: Option<Witness>,
    witnessed: Option<Witness>,
    /// Since when lightningd shuts down.
    leaving: Option<Instant>,
    last_batch: Instant,
    fenced: watch::Fenced,
    files: files::Sending,
}

enum State {
    /// No batch came yet.
    Idle,
    /// The run is open.
    Writing(Box<Writer>),
    /// Nothing is acknowledged any more.
    Halted(Halted),
}

impl Plugin {
    fn new(network_dir: PathBuf, ambient: Ambient, input: Input) -> Self {
        Self {
            network_dir,
            ambient,
            input,
            waiting: VecDeque::new(),
            recovery: Recovery::NotNeeded,
            lock: None,
            state: State::Idle,
            acknowledged: None,
            witnessed: None,
            leaving: None,
            last_batch: Instant::now(),
            fenced: watch::Fenced::default(),
            files: files::Sending::default(),
        }
    }

    async fn run(mut self) -> ExitCode {
        let mut witness = tokio::time::interval(WITNESS_EVERY);
        witness.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leave = tokio::time::interval(LEAVE_CHECK);
        leave.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let incoming = if let Some(incoming) = self.waiting.pop_front() {
                incoming
            } else {
                tokio::select! {
                    biased;
                    incoming = self.input.recv() => incoming,
                    reason = self.fenced.happened() => return self.stop_idle(reason).await,
                    _ = witness.tick() => { self.write_witness().await; continue; }
                    _ = leave.tick(), if self.leaving.is_some() => {
                        if self.may_leave() { return self.end(true).await; }
                        continue;
                    }
                }
            };
            match incoming {
                Incoming::End => return self.end(false).await,
                Incoming::Broken(reason) => {
                    stdio::log(
                        Level::Error,
                        &format!("what lightningd sends cannot be read: {reason}"),
                    );
                    return ExitCode::FAILURE;
                }
                Incoming::Frame(frame) => {
                    if self.handle(&frame).await.is_none() {
                        // lightningd went away while its batch waited; nothing was committed that is not durable.
                        return self.end(false).await;
                    }
                }
            }
        }
    }

    /// Handles one message; `None` where standard input ended meanwhile.
    async fn handle(&mut self, frame: &[u8]) -> Option<()> {
        match message::parse(frame) {
            Ok(Message::GetManifest { id }) => {
                // Too large for the stack.
                let recovering = Box::pin(recover::recover(&self.network_dir, &self.ambient));
                (self.recovery, self.lock) =
                    watching_input(&mut self.input, &mut self.waiting, recovering).await?;
                stdio::reply(&id, &manifest());
            }
            Ok(Message::Init { id, init }) => {
                stdio::reply(&id, &json!({}));
                Self::after_init(*init);
            }
            Ok(Message::DbWrite { id, batch }) => self.db_write(&id, batch).await?,
            Ok(Message::Shutdown) => self.leaving = Some(Instant::now()),
            Ok(Message::UnknownRequest { id, method }) => {
                stdio::refuse(&id, -32601, &format!("backstop has no method {method}"));
            }
            Ok(Message::UnknownNotification) => {}
            Err(bad) => {
                stdio::log(
                    Level::Error,
                    &format!("a message from lightningd is malformed: {}", bad.reason),
                );
                if let Some(id) = bad.id {
                    stdio::refuse(&id, -32600, &bad.reason);
                }
            }
        }
        Some(())
    }

    async fn db_write(&mut self, id: &Value, batch: RawBatch) -> Option<()> {
        let state = std::mem::replace(&mut self.state, State::Idle);
        let (lock, recovery) = (self.lock.take(), &self.recovery);
        let (network_dir, ambient) = (&self.network_dir, &self.ambient);
        let backing_up = back_up(state, batch, recovery, lock, network_dir, ambient);
        let backing_up = taker::named(backing_up, network_dir, ambient);
        match watching_input(&mut self.input, &mut self.waiting, backing_up).await? {
            Ok(mut writer) => {
                stdio::reply(id, &json!({ "result": "continue" }));
                writer.follow();
                self.fenced.watch(&writer, &self.network_dir);
                self.files.begin(&writer.node, &writer.servers);
                self.acknowledged = Some(writer.witness());
                self.state = State::Writing(writer);
            }
            Err(halted) => {
                stdio::log(Level::Error, &undrained::told(&halted, &self.network_dir));
                stdio::reply(id, &json!({ "result": "fail" }));
                self.state = State::Halted(halted);
            }
        }
        self.last_batch = Instant::now();
        Some(())
    }

    /// Looks for what would leave the node unprotected. Runs beside the loop: it asks lightningd, and no answer to
    /// lightningd may wait for that.
    fn after_init(init: Init) {
        tokio::spawn(watch::check_protection(init.configuration));
    }

    /// Writes the witness where it moved; on another thread, because it is flushed to disk.
    async fn write_witness(&mut self) {
        if let State::Writing(writer) = &self.state {
            // What was spooled may have reached the servers since.
            self.acknowledged = Some(writer.witness());
        }
        let Some(witness) = self
            .acknowledged
            .filter(|witness| self.witnessed != Some(*witness))
        else {
            return;
        };
        let directory = Directory::in_network_dir(&self.network_dir);
        match tokio::task::spawn_blocking(move || directory.write_witness(&witness)).await {
            Ok(Ok(())) => self.witnessed = Some(witness),
            // The witness may lag: that is what it is made for. The operator should know about his disk.
            Ok(Err(error)) => stdio::log(Level::Warn, &format!("{error}; the backup goes on")),
            Err(_) => {}
        }
    }

    fn may_leave(&self) -> bool {
        let Some(since) = self.leaving else { return false };
        since.elapsed() >= LEAVE_LATEST
            || (self.last_batch.max(since).elapsed() >= LEAVE_QUIET && !siblings::any_alive())
    }

    /// Lets the shadow last; lightningd waits for the end of its plugins for a while.
    fn settle(&self) {
        if let State::Writing(writer) = &self.state
            && let Some(follower) = &writer.follower
        {
            follower.settle(SETTLE);
        }
    }

    /// The end of the run. `in_order` says that lightningd shut down and that its last batch is long committed.
    async fn end(mut self, in_order: bool) -> ExitCode {
        self.write_witness().await;
        self.settle();
        let spooling = matches!(&self.state, State::Writing(writer) if writer.is_spooling());
        if spooling {
            stdio::log(
                Level::Warn,
                "Some updates are in the spool on this disk alone: the next start sends them to the servers first. Keep backstop/spool",
            );
        }
        if in_order && !spooling && self.acknowledged.is_some() && self.witnessed == self.acknowledged {
            let ended = Directory::in_network_dir(&self.network_dir).end_run();
            if let Err(error) = ended {
                stdio::log(Level::Warn, &error.to_string());
            }
        }
        ExitCode::SUCCESS
    }

    /// Another machine took over while this one was idle: the plugin's end ends lightningd (I7).
    async fn stop_idle(&mut self, reason: Halted) -> ExitCode {
        let naming = taker::name(reason.clone(), &self.network_dir, &self.ambient);
        let named = watching_input(&mut self.input, &mut self.waiting, naming).await;
        // Where lightningd went away meanwhile, the next start wants to know all the same.
        let reason = named.unwrap_or(reason);
        stdio::log(Level::Error, &undrained::told(&reason, &self.network_dir));
        ExitCode::FAILURE
    }
}

/// Makes one batch durable, or says why not; opens the run with the first one.
async fn back_up(
    state: State,
    batch: RawBatch,
    recovery: &Recovery,
    lock: Option<Lock>,
    network_dir: &Path,
    ambient: &Ambient,
) -> Result<Box<Writer>, Halted> {
    let versions = versions(&batch).map_err(|error| {
        Halted::new(format!(
            "lightningd sent an update that contradicts itself: {error}. The node is halted; nothing is lost."
        ))
    })?;
    let mut writer = match state {
        State::Writing(writer) => writer,
        State::Halted(halted) => return Err(halted),
        State::Idle => {
            let node = Node::load(network_dir, ambient.clone()).map_err(|error| {
                Halted::new(format!("This node's backup is not set up as it must be: {error}. The node is halted; nothing is lost."))
            })?;
            let node = Arc::new(node);
            // Once a run, and too large for the stack of every batch.
            Box::new(Box::pin(opening::open(node, versions, recovery, lock)).await?)
        }
    };
    writer.append_batch(versions, batch.writes).await?;
    Ok(writer)
}

/// Waits for `work`, but not longer than standard input lasts; whatever else arrives is kept for later.
async fn watching_input<T>(
    input: &mut Input,
    waiting: &mut VecDeque<Incoming>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            incoming = input.recv() => match incoming {
                Incoming::End => return None,
                other => waiting.push_back(other),
            },
        }
    }
}

/// What the plugin is: one hook and nothing else, and never to be restarted under a running node.
fn manifest() -> Value {
    json!({
        "options": [],
        "rpcmethods": [],
        "hooks": ["db_write"],
        "subscriptions": ["shutdown"],
        "dynamic": false,
        "nonnumericids": true,
    })
}
