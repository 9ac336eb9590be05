//! The way to one server: its own queue and its own task, so that none waits for another.
//!
//! A lane sends what the hook hands over, in order and byte by byte as it was sealed. Where its server was away, or its queue grew
//! too long, it copies what the server lacks from the one that is furthest, and goes on with the queue.

use super::{
    Door, Member,
    board::{Board, Trouble},
    claim::{Who, enter},
    copy::{CopyError, bring, restores},
    stop::Stop,
};
use crate::{random::SharedRng, remote::RemoteError, restore::BackupServer as _};
use backstop_protocol::{
    api::Appended,
    head::Head,
    id::RecordHash,
    problem::{Problem, ProblemCode},
};
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

/// Most bytes of records that wait for a server; what comes while there are as many is copied from another server later.
const QUEUE_BYTES: usize = 16 << 20;

/// How a lane takes its time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The first pause after a failure; each is twice the one before.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How often an idle lane asks whether its run is still the writer.
    pub ask_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            ask_every: Duration::from_secs(20),
        }
    }
}

/// A sealed record on its way.
#[derive(Clone)]
pub struct Record {
    /// Its place, and its hash.
    pub head: Head,
    /// The hash of the one before it.
    pub prev: RecordHash,
    /// All of it.
    pub sealed: Bytes,
}

/// What becomes of a server, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It does not take what it is sent.
    Behind {
        /// The server.
        url: String,
        /// Why.
        reason: String,
    },
    /// It holds everything again.
    Level {
        /// The server.
        url: String,
    },
    /// It took a record and says that its room runs out, or that it is to remove everything.
    Room {
        /// The server.
        url: String,
        /// What it says.
        appended: Appended,
    },
}

/// The hook's end of a lane.
pub(super) struct Lane {
    records: mpsc::UnboundedSender<Record>,
    queued: Arc<AtomicUsize>,
}

impl Lane {
    /// Hands a record over; never waits.
    pub(super) fn send(&self, record: &Record) {
        let len = record.sealed.len();
        // A record always fits where nothing waits.
        let queued = self.queued.load(Ordering::Relaxed);
        if queued > 0 && queued.saturating_add(len) > QUEUE_BYTES {
            return;
        }
        self.queued.fetch_add(len, Ordering::Relaxed);
        // Where the task has ended, the board says why.
        let _ = self.records.send(record.clone());
    }
}

/// The task's own.
pub(super) struct Runner<D: Door> {
    pub(super) at: usize,
    pub(super) door: D,
    pub(super) who: Who,
    pub(super) epoch: u64,
    pub(super) board: Arc<Board<D::Session>>,
    pub(super) pace: Pace,
    pub(super) rng: SharedRng,
    pub(super) tell: Arc<dyn Fn(News) + Send + Sync>,
}

/// What is to be sent.
struct Inbox {
    records: mpsc::UnboundedReceiver<Record>,
    queued: Arc<AtomicUsize>,
    /// A record whose sending did not succeed yet.
    waiting: Option<Record>,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.waiting.is_none() && self.records.is_empty()
    }

    /// The next one; `None` where the run ends. Dropped half-way it loses nothing.
    async fn next(&mut self) -> Option<Record> {
        if let Some(record) = self.waiting.take() {
            return Some(record);
        }
        let record = self.records.recv().await?;
        self.queued.fetch_sub(record.sealed.len(), Ordering::Relaxed);
        Some(record)
    }
}

impl<D: Door> Runner<D> {
    /// Starts the task.
    pub(super) fn start(self) -> Lane {
        let (records, heard) = mpsc::unbounded_channel();
        let queued = Arc::<AtomicUsize>::default();
        let inbox = Inbox {
            records: heard,
            queued: Arc::clone(&queued),
            waiting: None,
        };
        tokio::spawn(self.run(inbox));
        Lane { records, queued }
    }

    async fn run(self, mut inbox: Inbox) {
        let mut pause = self.pace.first;
        let mut told = false;
        while !inbox.records.is_closed() {
            let Err(stop) = self.serve(&mut inbox, &mut pause, &mut told).await else {
                return;
            };
            let stop = stop.or_lost(self.epoch, self.door.url());
            if let Stop::Lost(_) = &stop {
                self.board.change(self.at, |mine| {
                    mine.session = None;
                    mine.head = None;
                    mine.whole = false;
                });
            }
            match stop {
                Stop::Closed => return,
                Stop::Fenced(refusal) => {
                    self.board.fence(refusal);
                    return;
                }
                Stop::Trouble(trouble) | Stop::Lost(trouble) => {
                    if !std::mem::replace(&mut told, true) {
                        (self.tell)(News::Behind {
                            url: self.door.url().to_owned(),
                            reason: trouble.reason.to_string(),
                        });
                    }
                    self.board.change(self.at, |mine| mine.trouble = Some(trouble));
                }
            }
            tokio::time::sleep(self.jittered(pause)).await;
            pause = (pause * 2).min(self.pace.longest);
        }
    }

    /// Between half of `pause` and all of it.
    fn jittered(&self, pause: Duration) -> Duration {
        let random = u32::from_be_bytes(self.rng.array());
        let half = pause / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Serves the server for as long as it goes well.
    async fn serve(&self, inbox: &mut Inbox, pause: &mut Duration, told: &mut bool) -> Result<(), Stop> {
        let session = self.session().await?;
        let mut head = match self.board.of(self.at, |mine| mine.head).flatten() {
            Some(head) => head,
            None => self.look(&*session).await?,
        };
        // Before anything of the queue, which may hold a gap: whether it counts is judged by what it holds then.
        head = self.level(&*session, head).await?;
        self.judge(&*session).await?;
        loop {
            if inbox.is_empty() {
                head = self.level(&*session, head).await?;
                *pause = self.pace.first;
                if std::mem::replace(told, false) {
                    let url = self.door.url().to_owned();
                    (self.tell)(News::Level { url });
                }
            }
            let Ok(record) = timeout(self.pace.ask_every, inbox.next()).await else {
                head = self.look(&*session).await?;
                self.judge(&*session).await?;
                continue;
            };
            let record = record.ok_or(Stop::Closed)?;
            // What was copied came here ahead of the queue.
            if record.head.cmp_place(&head).is_le() {
                continue;
            }
            inbox.waiting = Some(record.clone());
            if record.prev != head.hash && record.head.seq != head.seq {
                // Something between was not handed over.
                head = self.forward(&*session, head).await?;
                continue;
            }
            match session.append(record.sealed).await {
                Ok(appended) if appended.head == record.head => {
                    inbox.waiting = None;
                    head = record.head;
                    *pause = self.pace.first;
                    if appended.quota.is_some() || appended.removal_at.is_some() {
                        let url = self.door.url().to_owned();
                        (self.tell)(News::Room { url, appended });
                    }
                    self.board.change(self.at, |mine| {
                        mine.head = Some(head);
                        mine.roll_up = appended.roll_up;
                        mine.trouble = None;
                    });
                }
                Ok(_) => return Err(self.astray()),
                // It ends in records that never counted.
                Err(error) if error.code() == Some(ProblemCode::NotNext) => {
                    head = self.forward(&*session, head).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The session; opened where there is none yet.
    async fn session(&self) -> Result<Arc<D::Session>, Stop> {
        if let Some(session) = self.board.of(self.at, |mine| mine.session.clone()).flatten() {
            return Ok(session);
        }
        let entered = enter(&self.door, self.who, self.epoch).await;
        let (session, account) = entered.map_err(|reason| {
            // Not a fence: this server was never part of the opening, and whoever takes the node over also takes one that was.
            let passing = reason.is_passing();
            Stop::Trouble(Trouble { reason, passing })
        })?;
        self.board.change(self.at, |mine| {
            mine.session = Some(Arc::clone(&session));
            mine.head = Some(account.head);
        });
        Ok(session)
    }

    /// Asks the server where it stands, and whether this run is still its writer.
    async fn look(&self, session: &D::Session) -> Result<Head, Stop> {
        let account = session.account().await?;
        if account.restored_since.is_some() {
            // Its epoch was raised by its operator.
            return Err(Stop::Trouble(Trouble {
                reason: RemoteError::Refused {
                    url: self.door.url().to_owned(),
                    problem: Box::new(Problem::new(ProblemCode::ServerRestored, "")),
                },
                passing: false,
            }));
        }
        if account.epoch > self.epoch {
            let mut problem = Problem::new(ProblemCode::Fenced, "");
            problem.since = account.writer_since;
            return Err(Stop::Fenced(RemoteError::Refused {
                url: self.door.url().to_owned(),
                problem: Box::new(problem),
            }));
        }
        self.board.change(self.at, |mine| mine.head = Some(account.head));
        Ok(account.head)
    }

    /// Another head than the one that this lane left there.
    fn astray(&self) -> Stop {
        self.board.change(self.at, |mine| mine.head = None);
        Stop::Trouble(Trouble {
            reason: RemoteError::Protocol {
                url: self.door.url().to_owned(),
                reason: "its log does not end where this run left it".to_owned(),
            },
            passing: true,
        })
    }

    /// Where nothing waits: brings the server to the last record that was acknowledged.
    async fn level(&self, session: &D::Session, mut head: Head) -> Result<Head, Stop> {
        let acknowledged = self.board.acknowledged();
        // A record that never counted may stand there until the next one replaces it.
        if head.cmp_place(&acknowledged).is_lt() && head.seq <= acknowledged.seq {
            head = self.forward(session, head).await?;
        }
        if self.board.of(self.at, |mine| mine.trouble.is_some()) == Some(true) {
            self.board.change(self.at, |mine| mine.trouble = None);
        }
        if self.board.of(self.at, |mine| mine.look_again) == Some(true) {
            self.judge(session).await?;
        }
        Ok(head)
    }

    /// Where the server does not count yet: sees whether it does now.
    async fn judge(&self, session: &D::Session) -> Result<(), Stop> {
        if self.board.of(self.at, |mine| mine.whole) == Some(false) {
            let account = session.account().await?;
            let whole = restores(session, &account, account.head.seq).await?;
            self.board.change(self.at, |mine| {
                mine.whole = whole;
                mine.look_again = false;
            });
        }
        Ok(())
    }

    /// Copies what the server lacks from the one that is furthest.
    async fn forward(&self, session: &D::Session, head: Head) -> Result<Head, Stop> {
        let Some((source, goal, url)) = self.board.ahead_of(self.at, head) else {
            return Err(self.astray());
        };
        let account = session.account().await?;
        let copied = bring(session, &account, &*source, goal, (self.door.url(), &url)).await;
        let copied = copied.map_err(|error| self.not_copied(error))?;
        self.board.change(self.at, |mine| {
            mine.head = Some(goal);
            // Its snapshot is not the one that bridges the gap.
            mine.whole &= copied.gap.is_none();
        });
        Ok(goal)
    }

    fn not_copied(&self, error: CopyError) -> Stop {
        match error {
            CopyError::Remote(error) => error.into(),
            other => Stop::Trouble(Trouble {
                reason: RemoteError::Protocol {
                    url: self.door.url().to_owned(),
                    reason: other.to_string(),
                },
                passing: false,
            }),
        }
    }
}
