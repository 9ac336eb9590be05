//! Outage policy `spool`: the node goes on against a file on its own disk, within bounds, and the servers get the same records in
//! the same order once they are back (SPEC 8.10, I2, I7).
//!
//! Only an open writer has one, so its run was confirmed by enough servers, everything before is restorable, and the backup itself
//! says that it may. With the servers there it costs nothing: no file is touched.

mod confirmed;
mod drain;

pub(super) use confirmed::Moment;

use super::{
    halt::Halted,
    patience::{GaveUp, Patience},
    room::Room,
    servers::Servers,
    stdio::{self, Level},
};
use crate::{
    directory::{SpoolConfig, Witness},
    node::Node,
    quorum::Record,
    remote::RemoteError,
    spool::{Entry, SpoolFile},
};
use backstop_protocol::id::TimelineId;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};

/// A writer's spool: the hook's end.
pub(super) struct Spool {
    shared: Arc<Shared>,
}

/// What the hook and the draining task share.
struct Shared {
    node: Arc<Node>,
    servers: Servers,
    patience: Patience,
    timeline: TimelineId,
    epoch: u64,
    /// Held while the file is written to.
    queue: AsyncMutex<Queue>,
    known: Mutex<Known>,
    /// Wakes whoever waits for the spool to be empty, or for the run's end.
    changed: watch::Sender<()>,
}

/// What no server is known to have.
#[derive(Default)]
struct Queue {
    /// `None` where there is no spool.
    file: Option<SpoolFile>,
    /// With the version of the database that each leads to.
    waiting: VecDeque<(Record, u64)>,
    /// The file could not be written to: it takes nothing more until it is drained.
    failed: bool,
}

struct Known {
    /// When the last request was sent that enough servers confirmed. Never that of a record which they may have had already: hearing
    /// the same again, they do not count it as a word from the writer.
    confirmed: Moment,
    acknowledged: Witness,
    /// Whether there is a spool.
    spooling: bool,
    /// What was wrong at the last attempt to drain it.
    trouble: RemoteError,
    /// Why nothing is acknowledged any more.
    ended: Option<RemoteError>,
}

impl Spool {
    /// For a run whose opening is complete, whose last acknowledged record is `acknowledged`, sent at `confirmed` for the first time.
    pub(super) fn new(
        node: &Arc<Node>,
        servers: &Servers,
        patience: &Patience,
        epoch: u64,
        (acknowledged, confirmed): (Witness, Moment),
    ) -> Self {
        let shared = Arc::new(Shared {
            node: Arc::clone(node),
            servers: servers.clone(),
            patience: patience.clone(),
            timeline: acknowledged.timeline,
            epoch,
            queue: AsyncMutex::default(),
            known: Mutex::new(Known {
                confirmed,
                acknowledged,
                spooling: false,
                trouble: RemoteError::Key,
                ended: None,
            }),
            changed: watch::Sender::new(()),
        });
        tokio::spawn(confirmed::show_life(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Makes one record durable: at enough servers, or, where they do not answer in time, in the spool. Answers whether a roll-up is
    /// asked for.
    pub(super) async fn append(
        &self,
        record: &Record,
        version: u64,
        room: &mut Room,
    ) -> Result<bool, Halted> {
        let shared = &self.shared;
        let network_dir = &shared.node.network_dir;
        shared.check()?;
        let began = Instant::now();
        if let Some(taken) = shared.add(record, version).await {
            match taken {
                Ok(()) if shared.is_in_time() => return Ok(false),
                Ok(()) => return shared.until_drained("its time is over").await.map(|()| false),
                Err(full) => shared.until_drained(&full).await?,
            }
        }
        let sent = Moment::now(&shared.node);
        let wait = Duration::from_secs(shared.config().after_seconds);
        let patience = shared.patience.before_spool(wait);
        let appended = shared
            .servers
            .append_in_time(record, room, &patience, network_dir)
            .await;
        let error = match appended {
            Ok(roll_up) => {
                shared.acknowledge(record, version, Some(sent));
                return Ok(roll_up);
            }
            Err(GaveUp::Refused(halted)) => return Err(halted),
            Err(GaveUp::Over(error)) => error,
        };
        let left = match shared.begin(record, version, error).await {
            Ok(()) if shared.is_in_time() => return Ok(false),
            Ok(()) => return shared.until_drained("its time is over").await.map(|()| false),
            Err(why) => {
                stdio::log(
                    Level::Warn,
                    &format!(
                        "The spool cannot take the update: {why}. The node waits for its servers instead"
                    ),
                );
                shared.patience.after(began.elapsed())
            }
        };
        let roll_up = shared.servers.append(record, room, &left, network_dir).await?;
        shared.acknowledge(record, version, Some(sent));
        Ok(roll_up)
    }

    /// Whether there is one now.
    pub(super) fn is_spooling(&self) -> bool {
        self.shared.known().spooling
    }

    /// What enough servers are known to hold.
    pub(super) fn acknowledged(&self) -> Witness {
        self.shared.known().acknowledged
    }

    /// Waits until a server refuses what is in it for good.
    pub(super) fn end(&self) -> impl Future<Output = Halted> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let mut changes = shared.changed.subscribe();
            loop {
                if let Err(halted) = shared.check() {
                    return halted;
                }
                // It holds the sender.
                let _ = changes.changed().await;
            }
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> SpoolConfig {
        self.node.config.outage.spool
    }

    fn check(&self) -> Result<(), Halted> {
        match &self.known().ended {
            Some(refusal) => Err(Halted::refused(refusal, &self.node.network_dir)),
            None => Ok(()),
        }
    }

    /// How long the node may still go on without its servers.
    fn time_left(&self) -> Duration {
        let confirmed = self.known().confirmed;
        let elapsed = confirmed.elapsed(&self.node);
        Duration::from_secs(self.config().seconds).saturating_sub(elapsed)
    }

    fn is_in_time(&self) -> bool {
        !self.time_left().is_zero()
    }

    /// Takes in that enough servers hold a record, which was `sent` for the first time then.
    fn acknowledge(&self, record: &Record, version: u64, sent: Option<Moment>) {
        let mut known = self.known();
        known.acknowledged = Witness::new(self.timeline, record.head, version);
        known.confirmed = sent.unwrap_or(known.confirmed);
    }

    /// Why the spool takes no record of this many bytes more.
    fn full(&self, queue: &Queue, record: &Record) -> Option<String> {
        let config = self.config();
        let len = queue.file.as_ref().map_or(0, SpoolFile::len);
        if !self.is_in_time() {
            Some(format!(
                "{} s have passed since the last request that enough servers confirmed (outage.spool.seconds)",
                config.seconds
            ))
        } else if len.saturating_add(SpoolFile::cost(&record.sealed)) > config.bytes {
            Some(format!(
                "it would hold more than {} bytes (outage.spool.bytes)",
                config.bytes
            ))
        } else if queue.failed {
            Some("the disk failed to take the last update".to_owned())
        } else {
            None
        }
    }

    /// Adds a record where there is a spool; `None` where there is none.
    async fn add(&self, record: &Record, version: u64) -> Option<Result<(), String>> {
        let mut queue = self.queue.lock().await;
        queue.file.as_ref()?;
        if let Some(full) = self.full(&queue, record) {
            return Some(Err(full));
        }
        let (mut file, entry) = (queue.file.take()?, Entry::of(record.sealed.clone())?);
        // Where this is dropped half-way, so is the process.
        let added = tokio::task::spawn_blocking(move || {
            let added = file.add(&entry);
            (file, added)
        });
        let Ok((file, added)) = added.await else {
            return Some(Err("the disk was not heard of".to_owned()));
        };
        queue.file = Some(file);
        Some(match added {
            Ok(()) => {
                queue.waiting.push_back((record.clone(), version));
                Ok(())
            }
            Err(error) => {
                queue.failed = true;
                Err(error.to_string())
            }
        })
    }

    /// Begins a spool with this record, and the attempts to drain it.
    async fn begin(
        self: &Arc<Self>,
        record: &Record,
        version: u64,
        error: RemoteError,
    ) -> Result<(), String> {
        let mut queue = self.queue.lock().await;
        if let Some(full) = self.full(&queue, record) {
            return Err(full);
        }
        let (path, now) = (self.node.directory.spool(), self.node.ambient.clock.now());
        let entry = Entry::of(record.sealed.clone()).ok_or("it is no record")?;
        let begun = tokio::task::spawn_blocking(move || SpoolFile::begin(&path, now, &entry)).await;
        let file = match begun {
            Ok(Ok(file)) => file,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the disk was not heard of".to_owned()),
        };
        let config = self.config();
        stdio::log(
            Level::Warn,
            &format!(
                "Too few servers took an update: {error}. The node goes on, and keeps its updates in {} until they do, at most {} \
                 bytes and for {} s more, then it waits. Until then these updates are on this disk alone: do not take this node over \
                 elsewhere while it runs",
                file.path().display(),
                config.bytes,
                self.time_left().as_secs(),
            ),
        );
        queue.file = Some(file);
        queue.waiting.push_back((record.clone(), version));
        {
            let mut known = self.known();
            known.spooling = true;
            known.trouble = error;
        }
        tokio::spawn(Arc::clone(self).drain());
        Ok(())
    }
}
