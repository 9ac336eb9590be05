//! The thread that follows the log with the shadow, and makes roll-ups and proofs of it.
//!
//! The hook hands over what was acknowledged and goes on: it never waits for this thread, and what it hands over is
//! bounded in bytes. Where the thread falls behind, batches are dropped here and read from the server again.

mod proof;
mod roll_up;
mod servers;
mod trouble;
mod worker;

pub(super) use proof::ProofCopy;

use super::stdio::{self, Level};
use crate::{node::Node, record::Content, snapshot::Base};
use backstop_protocol::{head::Head, id::TimelineId, session::WriterClaim};
use bytes::Bytes;
use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Duration,
};
use tokio::sync::mpsc;

/// Most bytes of statements that wait for the thread; what comes while there are as many is read from the server later.
const QUEUE_BYTES: usize = 16 << 20;
/// What a statement costs beside its bytes.
const STATEMENT_COST: usize = 32;

/// Where the shadow begins.
pub(super) enum Start {
    /// Before the first record.
    Empty,
    /// With a copy of the live database that became a snapshot.
    Copy {
        /// The copy, which is the shadow's from now on.
        file: PathBuf,
        /// Where it stands.
        base: Base,
        /// The last policy record up to there.
        policy: Option<Vec<u8>>,
    },
    /// Where an earlier run left it.
    Continue {
        /// Where the log ended when this run began.
        head: Head,
        /// The live database as it was then, to be compared with the shadow.
        proof: Option<ProofCopy>,
    },
}

/// What the thread hears, in the order of the log.
enum Event {
    /// A record that was acknowledged. `sealed` is the record itself where it is a policy.
    Record {
        head: Head,
        content: Content,
        sealed: Bytes,
        cost: usize,
    },
    /// The record before the next one can be the base of a snapshot: the next one needs none of those before it.
    RollUp { head: Head },
    /// The run ends: make the shadow last, and say so.
    Settle(blocking::Sender<()>),
}

/// What hook and thread tell each other without waiting.
#[derive(Default)]
struct Shared {
    /// Bytes that wait.
    queued: AtomicUsize,
    /// A roll-up is under way, or was put off for a while.
    rolling: AtomicBool,
    /// The thread itself wants a roll-up, until one succeeds.
    wanted: AtomicBool,
    /// A roll-up was made that the hook has not heard of.
    made: AtomicBool,
}

/// The hook's end.
pub(super) struct Follower {
    events: mpsc::UnboundedSender<Event>,
    shared: Arc<Shared>,
}

impl Follower {
    /// Starts the thread; `None` where the system has none, which is no reason to stop the node.
    pub(super) fn start(
        node: Arc<Node>,
        claim: Option<WriterClaim>,
        timeline: TimelineId,
        start: Start,
    ) -> Option<Self> {
        let (events, heard) = mpsc::unbounded_channel();
        let shared = Arc::<Shared>::default();
        let worker = worker::Worker::new(node, claim, timeline, heard, shared.clone());
        thread::Builder::new()
            .name("shadow".to_owned())
            .spawn(move || {
                let ended = std::panic::catch_unwind(AssertUnwindSafe(|| worker.run(start)));
                if ended.is_err() {
                    stdio::log(
                        Level::Error,
                        "The thread that makes roll-ups broke off, which is a fault of this program: please report it. The \
                         backup goes on, its log grows; roll-ups go on after the next restart of lightningd.",
                    );
                }
            })
            .ok()?;
        Some(Self { events, shared })
    }

    /// Hands over a record that was acknowledged.
    pub(super) fn follow(&self, head: Head, content: Content, sealed: Bytes) {
        let cost = cost(&content);
        if self.shared.queued.load(Ordering::Relaxed).saturating_add(cost) > QUEUE_BYTES {
            return;
        }
        self.shared.queued.fetch_add(cost, Ordering::Relaxed);
        let is_policy = matches!(content, Content::Policy(_));
        // Where the thread has ended, so has the need.
        let _ = self.events.send(Event::Record {
            head,
            content,
            sealed: if is_policy { sealed } else { Bytes::new() },
            cost,
        });
    }

    /// Whether the thread itself wants a roll-up.
    pub(super) fn wants_roll_up(&self) -> bool {
        self.shared.wanted.load(Ordering::Relaxed)
    }

    /// Whether a roll-up was made since this was asked last.
    pub(super) fn has_rolled_up(&self) -> bool {
        self.shared.made.swap(false, Ordering::Relaxed)
    }

    /// Asks for a roll-up at `head`, the last record that was handed over. Answers whether it begins: then the next
    /// record must start a context of its own.
    pub(super) fn roll_up(&self, head: Head) -> bool {
        if self.shared.rolling.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.events.send(Event::RollUp { head }).is_ok()
    }

    /// Makes the shadow last over a power cut, if that takes no longer than `limit`.
    pub(super) fn settle(&self, limit: Duration) {
        let (done, settled) = blocking::channel();
        if self.events.send(Event::Settle(done)).is_ok() {
            // Where it takes longer, the shadow is made again after the next power cut.
            let _ = settled.recv_timeout(limit);
        }
    }
}

/// About how many bytes of memory a record takes.
fn cost(content: &Content) -> usize {
    match content {
        Content::Batch(batch) => batch
            .statements
            .iter()
            .map(|statement| statement.len().saturating_add(STATEMENT_COST))
            .sum(),
        Content::Gap(_) | Content::Policy(_) => STATEMENT_COST,
    }
}
