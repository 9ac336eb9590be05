//! The writer's servers as the hook sees them. With one there is nothing between it and the session; several have lanes of
//! their own ([`crate::quorum`]).

use super::{
    halt::Halted,
    patience::{GaveUp, Patience},
    room::Room,
    stdio::{self, Level},
};
use crate::{
    node::Node,
    quorum::{Around, Door as _, Ended, News, Pace, Record, ServerDoor, Several, Who, claim},
    remote::{RemoteError, Session},
};
use backstop_protocol::{head::Head, id::RunId, problem::ProblemCode, session::WriterClaim};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How often an opening follows the server's epoch before it gives up: more than once means that somebody else opens too.
const EPOCH_RETRIES: u32 = 4;

/// Most bytes of a spool that are on their way to several servers at once: far less than their queues hold.
const WINDOW: usize = 4 << 20;
/// How long servers may take for a piece of a spool before it is handed to them again.
const WINDOW_PATIENCE: Duration = Duration::from_secs(5);

/// All servers of an open writer.
#[derive(Clone)]
pub(super) enum Servers {
    /// The only one.
    One(Arc<Session>),
    /// All of several, of which some may be away.
    Several(Arc<Several<ServerDoor>>),
}

/// Becomes the writer of `run` at as many servers as are needed. `expected` is the epoch that was seen last.
pub(super) async fn open(
    node: &Node,
    run: RunId,
    expected: &mut u64,
) -> Result<(Servers, Ended<Session>), RemoteError> {
    let doors = node.doors();
    if let [door] = doors.as_slice() {
        return open_one(node, door, run, expected).await;
    }
    let who = Who {
        instance: node.instance,
        run,
        takeover: false,
        taken_at: node.taken_at,
    };
    let rule = node.config.rule();
    let claimed = claim(&doors, who, rule.needed, *expected).await?;
    *expected = claimed.epoch;
    let around = Around {
        pace: Pace::default(),
        rng: node.ambient.rng.clone(),
        tell: teller(),
    };
    let (several, ended) = Several::open(&doors, who, rule, claimed, &around).await?;
    Ok((Servers::Several(Arc::new(several)), ended))
}

/// Opens at the server's epoch, which is learnt from its first refusal where ours is old.
async fn open_one(
    node: &Node,
    door: &ServerDoor,
    run: RunId,
    expected: &mut u64,
) -> Result<(Servers, Ended<Session>), RemoteError> {
    let mut tries = 0;
    loop {
        let claim = WriterClaim {
            instance: node.instance,
            run,
            expected_epoch: *expected,
            epoch: *expected + 1,
            takeover: false,
        };
        match door.open(Some(claim)).await {
            Err(RemoteError::Refused { url, problem }) if problem.code == ProblemCode::EpochMismatch => {
                match problem.epoch {
                    Some(epoch) if tries < EPOCH_RETRIES => *expected = epoch,
                    _ => return Err(RemoteError::Refused { url, problem }),
                }
            }
            opened => {
                let (session, account) = opened?;
                let session = Arc::new(session);
                let ended = Ended {
                    session: Arc::clone(&session),
                    account,
                    whole: true,
                };
                return Ok((Servers::One(session), ended));
            }
        }
        tries += 1;
    }
}

impl Servers {
    /// Sends one record to all, and waits until enough hold it. Answers whether a roll-up is asked for.
    pub(super) async fn append(
        &self,
        record: &Record,
        room: &mut Room,
        patience: &Patience,
        network_dir: &Path,
    ) -> Result<bool, Halted> {
        let appended = self.append_in_time(record, room, patience, network_dir).await;
        appended.map_err(|gave_up| gave_up.halted(patience.limit))
    }

    /// The same where what comes after the limit is not a halt.
    pub(super) async fn append_in_time(
        &self,
        record: &Record,
        room: &mut Room,
        patience: &Patience,
        network_dir: &Path,
    ) -> Result<bool, GaveUp> {
        const WHAT: &str = "backup of an update";
        let several = match self {
            Self::One(session) => return append_to_one(session, record, room, patience, network_dir).await,
            Self::Several(several) => several,
        };
        several.send(record);
        let lacking = || several.lacking(record.head);
        patience
            .until_reached_in_time(WHAT, network_dir, several.reached(record.head), lacking)
            .await?;
        Ok(several.wants_roll_up(record.head))
    }

    /// Sends records that may be there already, in order, and waits until enough servers hold them; not longer than for one attempt.
    pub(super) async fn deliver(&self, records: &[Record]) -> Result<(), RemoteError> {
        match self {
            Self::One(session) => {
                for record in records {
                    let appended = session.append(record.sealed.clone()).await?;
                    // Sent again, it may lie further down by now.
                    if appended.head.seq < record.head.seq {
                        return Err(RemoteError::Protocol {
                            url: session.url().to_owned(),
                            reason: format!("it took record {} and has it not", record.head.seq),
                        });
                    }
                }
                Ok(())
            }
            Self::Several(several) => {
                let Some(last) = records.last() else { return Ok(()) };
                for record in records {
                    several.send(record);
                }
                let reached = tokio::time::timeout(WINDOW_PATIENCE, several.reached(last.head));
                reached.await.unwrap_or_else(|_| Err(several.lacking(last.head)))
            }
        }
    }

    /// How many of these records go on their way together.
    pub(super) fn window<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> usize {
        let most = match self {
            // Each has its own answer, so that what is there is known exactly.
            Self::One(_) => return 1,
            Self::Several(_) => WINDOW,
        };
        let mut bytes = 0_usize;
        let fits = records.into_iter().take_while(|record| {
            bytes = bytes.saturating_add(record.sealed.len());
            bytes <= most
        });
        fits.count().max(1)
    }

    /// The sessions that are open, each with the place of its server in the configuration.
    pub(super) fn sessions(&self) -> Vec<(usize, Arc<Session>)> {
        match self {
            Self::One(session) => vec![(0, Arc::clone(session))],
            Self::Several(several) => several.sessions(),
        }
    }

    /// The same of those servers that end in this record.
    pub(super) fn at(&self, head: Head) -> Vec<(usize, Arc<Session>)> {
        match self {
            Self::One(session) => vec![(0, Arc::clone(session))],
            Self::Several(several) => several.at(head),
        }
    }

    /// How many must hold what is acknowledged.
    pub(super) fn needed(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Several(several) => several.needed(),
        }
    }
}

async fn append_to_one(
    session: &Session,
    record: &Record,
    room: &mut Room,
    patience: &Patience,
    network_dir: &Path,
) -> Result<bool, GaveUp> {
    let appended = patience
        .until_done_in_time("backup of an update", network_dir, async || {
            session.append(record.sealed.clone()).await
        })
        .await?;
    if appended.head != record.head {
        return Err(GaveUp::Refused(Halted::new(format!(
            "{} acknowledged record {} but names {} as the newest. The node is halted, nothing is lost.",
            session.url(),
            record.head.seq,
            appended.head
        ))));
    }
    room.hear(session.url(), &appended, Instant::now());
    Ok(appended.roll_up)
}

/// Says in lightningd's log what becomes of each server.
fn teller() -> Arc<dyn Fn(News) + Send + Sync> {
    let rooms = Mutex::<BTreeMap<String, Room>>::default();
    Arc::new(move |news| match news {
        News::Room { url, appended } => {
            let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
            rooms
                .entry(url.clone())
                .or_default()
                .hear(&url, &appended, Instant::now());
        }
        news => tell(news),
    })
}

fn tell(news: News) {
    match news {
        News::Room { .. } => {}
        News::Behind { url, reason } => stdio::log(
            Level::Warn,
            &format!(
                "{url} does not take the backup: {reason}. The other servers do as configured; this one is tried again and \
                 brought up to date in the background"
            ),
        ),
        News::Level { url } => stdio::log(Level::Info, &format!("{url} holds the whole backup again")),
    }
}
