//! Becoming the writer at several servers: a compare-and-set at each, with one epoch for all (I7, SPEC 8.7).
//!
//! An opening is complete once N servers are at its epoch, a takeover once M - N + 1 are. Any opening meets every other opening and
//! takeover at a server, where the later one has the greater epoch. So another instance at a lower epoch than that of a complete
//! opening, or than that of the takeover which made this directory the writer, is one whose time is over: its server is taken
//! along.

use super::{Answer, Door, open_all};
use crate::remote::RemoteError;
use backstop_protocol::{
    api::AccountState,
    id::{InstanceId, RunId},
    problem::ProblemCode,
    session::WriterClaim,
};
use std::sync::Arc;

/// How often a claim follows epochs that somebody else raises meanwhile.
const TRIES: u32 = 8;

/// Who claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The directory.
    pub instance: InstanceId,
    /// The run.
    pub run: RunId,
    /// Whether a person said that it takes the place of another instance.
    pub takeover: bool,
    /// The epoch at which a person said so when this directory was restored or adopted; 0 where nobody did. Servers that missed it are
    /// at lower ones, and whoever took over since is not.
    pub taken_at: u64,
}

impl Who {
    fn claim(&self, expected_epoch: u64, epoch: u64) -> WriterClaim {
        WriterClaim {
            instance: self.instance,
            run: self.run,
            expected_epoch,
            epoch,
            takeover: self.takeover,
        }
    }
}

/// A server at which the claim holds.
pub struct Held<S> {
    /// Which of the doors.
    pub at: usize,
    /// The writer's session.
    pub session: Arc<S>,
    /// The account after the claim: nobody else appends to it from then on.
    pub account: AccountState,
}

/// A claim that holds at enough servers.
pub struct Claimed<S> {
    /// The writer's epoch, the same at all of them.
    pub epoch: u64,
    /// Where it holds, in the order of the doors.
    pub held: Vec<Held<S>>,
    /// Where it does not, and why.
    pub left: Vec<(usize, RemoteError)>,
}

/// Claims the node at as many servers as it can, and at `needed` at least. The epoch is above every one that was seen and
/// above `floor`. Where fewer than needed answer, nothing is claimed anywhere. Otherwise the error is the most telling
/// refusal: another instance's, where there is one.
pub async fn claim<D: Door>(
    doors: &[D],
    who: Who,
    needed: usize,
    floor: u64,
) -> Result<Claimed<D::Session>, RemoteError> {
    let mut tried = 0;
    loop {
        let (known, silent) = epochs(doors, needed).await?;
        let epoch = known.iter().map(|(_, epoch)| *epoch).fold(floor, u64::max) + 1;
        match round(doors, who, needed, &known, epoch).await {
            Ok(mut claimed) => {
                claimed.left.extend(silent);
                claimed.left.sort_by_key(|(at, _)| *at);
                return Ok(claimed);
            }
            Err(error) if error.code() == Some(ProblemCode::EpochMismatch) && tried < TRIES => tried += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The epochs at the servers that answer, by their doors, and why the others did not. Nothing is claimed yet: an opening
/// that finds too few servers must not raise the epoch of those that it does find.
async fn epochs<D: Door>(
    doors: &[D],
    needed: usize,
) -> Result<(Vec<(usize, u64)>, Vec<(usize, RemoteError)>), RemoteError> {
    let readers = doors
        .iter()
        .cloned()
        .enumerate()
        .map(|(at, door)| (at, door, None));
    let (mut known, mut silent) = (Vec::new(), Vec::new());
    for Answer { at, opened } in open_all(readers, needed).await {
        match opened {
            Ok((_, account)) => known.push((at, account.epoch)),
            Err(error) => silent.push((at, error)),
        }
    }
    if known.len() < needed {
        return Err(worst(silent, doors.len() - needed.min(doors.len())));
    }
    Ok((known, silent))
}

/// One compare-and-set at each of the `known` servers.
async fn round<D: Door>(
    doors: &[D],
    who: Who,
    needed: usize,
    known: &[(usize, u64)],
    epoch: u64,
) -> Result<Claimed<D::Session>, RemoteError> {
    let mut claimed = Claimed {
        epoch,
        held: Vec::new(),
        left: Vec::new(),
    };
    // The one at the greatest epoch first: where this directory was taken over, that server says so, and those that do not
    // know yet are left as they are.
    let greatest = known
        .iter()
        .max_by_key(|(_, epoch)| *epoch)
        .filter(|(_, epoch)| *epoch > 0);
    let (foremost, others): (Vec<_>, Vec<_>) = known.iter().partition(|server| Some(*server) == greatest);
    let mut elsewhere = Vec::new();
    for servers in [foremost, others] {
        let claims = servers.into_iter().filter_map(|(at, expected)| {
            Some((at, doors.get(at)?.clone(), Some(who.claim(expected, epoch))))
        });
        for Answer { at, opened } in open_all(claims, needed.saturating_sub(claimed.held.len())).await {
            match opened {
                Ok((session, account)) => claimed.held.push(Held {
                    at,
                    session: Arc::new(session),
                    account,
                }),
                Err(error) if error.code() == Some(ProblemCode::EpochMismatch) => return Err(error),
                Err(error) if error.code() == Some(ProblemCode::OtherInstance) => {
                    // Those that missed this directory's own takeover may be needed.
                    match take_along(doors, at, who, epoch, (who.taken_at, &error)).await {
                        Ok(held) => claimed.held.push(held),
                        Err(_) => elsewhere.push((at, error)),
                    }
                }
                Err(error) => claimed.left.push((at, error)),
            }
        }
        if claimed.held.is_empty() && !elsewhere.is_empty() {
            return Err(worst(elsewhere, 0));
        }
    }
    if claimed.held.len() < needed {
        elsewhere.append(&mut claimed.left);
        return Err(worst(elsewhere, doors.len() - needed.min(doors.len())));
    }
    for (at, refusal) in elsewhere {
        match take_along(doors, at, who, epoch, (epoch, &refusal)).await {
            Ok(held) => claimed.held.push(held),
            Err(error) => claimed.left.push((at, error)),
        }
    }
    claimed.held.sort_by_key(|held| held.at);
    Ok(claimed)
}

/// A server that another instance left at an epoch below `bound`. The compare-and-set fails where anybody claims it meanwhile.
async fn take_along<D: Door>(
    doors: &[D],
    at: usize,
    who: Who,
    epoch: u64,
    (bound, refusal): (u64, &RemoteError),
) -> Result<Held<D::Session>, RemoteError> {
    match (refusal, doors.get(at)) {
        (RemoteError::Refused { problem, .. }, Some(door)) => match problem.epoch {
            Some(theirs) if theirs < bound => {
                let takeover = Who {
                    takeover: true,
                    ..who
                };
                let (session, account) = door.open(Some(takeover.claim(theirs, epoch))).await?;
                Ok(Held {
                    at,
                    session: Arc::new(session),
                    account,
                })
            }
            _ => Err(refusal.clone()),
        },
        _ => Err(refusal.clone()),
    }
}

/// The writer's session with a server that was left out of the complete opening of `epoch`, once it answers again.
pub(super) async fn enter<D: Door>(
    door: &D,
    who: Who,
    epoch: u64,
) -> Result<(Arc<D::Session>, AccountState), RemoteError> {
    let (_, account) = door.open(None).await?;
    let claim = who.claim(account.epoch, epoch);
    match door.open(Some(claim)).await {
        Err(refusal) if refusal.code() == Some(ProblemCode::OtherInstance) => {
            let held = take_along(std::slice::from_ref(door), 0, who, epoch, (epoch, &refusal)).await?;
            Ok((held.session, held.account))
        }
        opened => opened.map(|(session, account)| (Arc::new(session), account)),
    }
}

/// The error to report where too few servers are left: another instance's refusal, where there is one; one that no time heals,
/// where so many servers refuse that it does not matter what the others say; else one that may pass.
fn worst(errors: Vec<(usize, RemoteError)>, spare: usize) -> RemoteError {
    let refusals = errors.iter().filter(|(_, error)| !error.is_passing()).count();
    let rank = |error: &RemoteError| match error.code() {
        Some(ProblemCode::OtherInstance | ProblemCode::Fenced) => 0,
        _ if error.is_passing() == (refusals <= spare) => 1,
        _ => 2,
    };
    let most_telling = errors.into_iter().min_by_key(|(_, error)| rank(error));
    most_telling.map_or(RemoteError::Key, |(_, error)| error)
}
