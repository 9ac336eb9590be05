//! The writer's servers, where there are several.

use super::{
    Door,
    board::{Board, Standing},
    claim::{Claimed, Who},
    copy::{CopyError, bring, newest, restores},
    lane::{Lane, News, Pace, Record, Runner},
    rule::Rule,
};
use crate::{random::SharedRng, remote::RemoteError, restore::BackupServer as _};
use backstop_protocol::{api::AccountState, head::Head};
use std::{collections::BTreeSet, sync::Arc};

/// How many records a server may lack for a snapshot that rests on the head to find its base there once it was sent.
const NEAR: u64 = 8;

/// All servers of an open writer: each with a queue and a task of its own, and what is known of them together.
pub struct Several<D: Door> {
    rule: Rule,
    lanes: Vec<Lane>,
    board: Arc<Board<D::Session>>,
}

/// What is around the lanes.
#[derive(Clone)]
pub struct Around {
    /// How they take their time.
    pub pace: Pace,
    /// For pauses.
    pub rng: SharedRng,
    /// Hears what becomes of a server.
    pub tell: Arc<dyn Fn(News) + Send + Sync>,
}

/// Where the backup ends, once enough servers are there.
pub struct Ended<S> {
    /// The session with the server that holds the newest snapshot of those at the newest head.
    pub session: Arc<S>,
    /// The account there.
    pub account: AccountState,
    /// Whether so many servers restore to that head by themselves as must hold a record. Where not, the database must be
    /// uploaded before the next batch (I2).
    pub whole: bool,
}

impl<D: Door> Several<D> {
    /// Goes on from a claim that holds at enough servers: brings as many as are needed to the newest head among them, and leaves
    /// the others to their lanes.
    pub async fn open(
        doors: &[D],
        who: Who,
        rule: Rule,
        claimed: Claimed<D::Session>,
        around: &Around,
    ) -> Result<(Self, Ended<D::Session>), RemoteError> {
        let Claimed {
            epoch,
            mut held,
            left,
        } = claimed;
        let accounts = held.iter().map(|held| &held.account).enumerate();
        let Some((best, _)) = newest(accounts) else {
            return Err(RemoteError::Key);
        };
        let Some((session, account)) = held
            .get(best)
            .map(|held| (Arc::clone(&held.session), held.account.clone()))
        else {
            return Err(RemoteError::Key);
        };
        let goal = account.head;
        let url = |at: usize| doors.get(at).map_or("", Door::url);
        let source = held.get(best).map_or("", |held| url(held.at));
        let mut there = held.iter().filter(|held| held.account.head == goal).count();
        let mut failed = Vec::new();
        // The ones that lack least first.
        let mut behind: Vec<usize> = (0..held.len()).collect();
        behind.sort_by_key(|place| {
            let head = held.get(*place).map(|held| held.account.head);
            std::cmp::Reverse(head.map(|head| (head.epoch, head.seq)))
        });
        for place in behind {
            let Some(one) = held.get_mut(place).filter(|one| one.account.head != goal) else {
                continue;
            };
            if there >= rule.needed {
                break;
            }
            let urls = (url(one.at), source);
            match bring(&*one.session, &one.account, &*session, goal, urls).await {
                Ok(_) => {
                    one.account = one.session.account().await?;
                    there += 1;
                }
                Err(CopyError::Remote(error)) if error.is_passing() => failed.push(error),
                Err(error) => failed.push(RemoteError::Protocol {
                    url: url(one.at).to_owned(),
                    reason: error.to_string(),
                }),
            }
        }
        if there < rule.needed {
            return Err(failed.into_iter().next().unwrap_or(RemoteError::Key));
        }
        let bridged = account.snapshot.map_or(0, |snapshot| snapshot.base_seq);
        let mut standings: Vec<Standing<D::Session>> = Vec::new();
        for (at, door) in doors.iter().enumerate() {
            let Some(one) = held.iter().find(|held| held.at == at) else {
                let why = left.iter().find(|(left, _)| *left == at).map(|(_, why)| why);
                standings.push(Standing::left(door.url(), why.unwrap_or(&RemoteError::Key)));
                continue;
            };
            // Where that cannot be found out now, its lane asks again.
            let whole = one.account.head == goal
                && restores(&*one.session, &one.account, bridged)
                    .await
                    .unwrap_or_default();
            let session = Arc::clone(&one.session);
            standings.push(Standing::open(door.url(), session, &one.account, whole));
        }
        let board = Arc::new(Board::new(standings, goal));
        let whole = goal.is_empty() || board.holding(goal) >= rule.needed;
        let lanes = doors.iter().cloned().enumerate().map(|(at, door)| {
            let Around { pace, rng, tell } = around.clone();
            let board = Arc::clone(&board);
            let runner = Runner {
                at,
                door,
                who,
                epoch,
                board,
                pace,
                rng,
                tell,
            };
            runner.start()
        });
        let several = Self {
            rule,
            lanes: lanes.collect(),
            board,
        };
        Ok((
            several,
            Ended {
                session,
                account,
                whole,
            },
        ))
    }

    /// Hands a record to all servers. Sealed once: the same bytes go to each, in every attempt (I4).
    pub fn send(&self, record: &Record) {
        for lane in &self.lanes {
            lane.send(record);
        }
    }

    /// Returns once as many servers as are needed hold everything up to `head`, each of them on a chain that restores (I2). An error
    /// is final: another run is the writer, or so many servers refuse that waiting is of no use.
    pub async fn reached(&self, head: Head) -> Result<(), RemoteError> {
        let mut changes = self.board.watch();
        loop {
            if let Some(refusal) = self.board.fenced() {
                return Err(refusal);
            }
            if self.board.holding(head) >= self.rule.needed {
                self.board.acknowledge(head);
                return Ok(());
            }
            if let Some(refusal) = self.refusal(head) {
                return Err(refusal);
            }
            // The board holds the sender: it cannot be gone.
            let _ = changes.changed().await;
        }
    }

    /// Where too many servers refuse for good: what one of them says.
    fn refusal(&self, head: Head) -> Option<RemoteError> {
        let troubles = self.board.each(|server| server.trouble.clone());
        let mut refusing = troubles.into_iter().flatten().filter(|trouble| !trouble.passing);
        let first = refusing.next()?;
        let spare = self.rule.servers - self.rule.needed;
        (refusing.count() >= spare && self.board.holding(head) < self.rule.needed).then_some(first.reason)
    }

    /// Why `head` is not reached yet, for a person: which servers lack it.
    pub fn lacking(&self, head: Head) -> RemoteError {
        let lacks = self.board.each(|server| {
            let has = server.head.is_some_and(|mine| mine.cmp_place(&head).is_ge());
            let why = match &server.trouble {
                Some(trouble) => trouble.reason.to_string(),
                None if has => format!("{} lacks the snapshot that makes its log whole", server.url),
                None => format!("{} has not answered yet", server.url),
            };
            (!has || !server.whole).then_some(why)
        });
        let lacks: Vec<_> = lacks.into_iter().flatten().collect();
        RemoteError::Unreachable {
            url: format!(
                "{} of {} servers, of which {} must have it",
                lacks.len(),
                self.rule.servers,
                self.rule.needed
            ),
            reason: lacks.join("; "),
        }
    }

    /// Whether any of those at `head`, or just about to be, asks for a roll-up or lacks a snapshot.
    pub fn wants_roll_up(&self, head: Head) -> bool {
        let wanted = self.board.each(|server| {
            let is_near = server.head.is_some_and(|mine| mine.seq + NEAR >= head.seq);
            is_near && (server.roll_up || !server.whole && !server.look_again)
        });
        wanted.contains(&true)
    }

    /// A new snapshot was made: a server that did not count for want of one may do so now.
    pub fn look_again(&self) {
        for at in 0..self.lanes.len() {
            self.board.change(at, |server| server.look_again = !server.whole);
        }
    }

    /// The sessions that are open now, by the places of their servers.
    pub fn sessions(&self) -> Vec<(usize, Arc<D::Session>)> {
        let sessions = self.board.each(|server| server.session.clone());
        let placed = sessions.into_iter().enumerate();
        placed.filter_map(|(at, session)| Some((at, session?))).collect()
    }

    /// Whether another run is known to have become the writer at one of them.
    pub fn is_fenced(&self) -> bool {
        self.board.fenced().is_some()
    }

    /// Waits until another run has become the writer at one of them.
    pub fn fence(&self) -> impl Future<Output = RemoteError> + Send + use<D> {
        let board = Arc::clone(&self.board);
        async move {
            let mut changes = board.watch();
            loop {
                if let Some(refusal) = board.fenced() {
                    return refusal;
                }
                let _ = changes.changed().await;
            }
        }
    }

    /// A gap comes next, and nothing before it matters: whichever server takes it may hold the snapshot that bridges it.
    pub fn begin_gap(&self) {
        for at in 0..self.lanes.len() {
            self.board.change(at, |server| server.whole = true);
        }
    }

    /// The snapshot that bridges the gap at the head is complete at these servers: they count, and no others.
    pub fn end_gap(&self, places: &BTreeSet<usize>) {
        for at in 0..self.lanes.len() {
            self.board
                .change(at, |server| server.whole = places.contains(&at));
        }
    }

    /// How many must hold what is acknowledged.
    pub fn needed(&self) -> usize {
        self.rule.needed
    }

    /// The servers at which a record is the head: there a snapshot may rest on it.
    pub fn at(&self, head: Head) -> Vec<(usize, Arc<D::Session>)> {
        let sessions = self.board.each(|server| {
            let session = server.session.clone();
            session.filter(|_| server.head == Some(head))
        });
        let placed = sessions.into_iter().enumerate();
        placed.filter_map(|(at, session)| Some((at, session?))).collect()
    }
}
