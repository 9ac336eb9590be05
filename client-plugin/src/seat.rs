//! The writer's seat, for a second process of the directory that writes.
//!
//! Some calls are the writer's alone, and the writer is a run of the plugin, which takes no commands. Where that run is
//! the writer, a session under its very claim is opened beside it: the present writer's own claim succeeds again at any
//! time and changes nothing (SPEC 4.3), so the plugin is not disturbed. A claim that is no longer the writer's fails the
//! compare-and-set and changes nothing either. Then, with the directory's lock held so that no plugin can be at work, a
//! claim of its own takes the epoch on, as a start would; never another machine's (I7).

use crate::{
    directory::{DirectoryError, Lock, LockError},
    node::Node,
    quorum::{Door as _, ServerDoor},
    remote::{RemoteError, Session},
};
use backstop_protocol::{api::AccountState, id::RunId, problem::ProblemCode, session::WriterClaim};

/// How often a claim follows an epoch that somebody raises meanwhile.
const TRIES: u32 = 4;

/// An open session of the writer that this directory is.
pub struct Seat {
    /// The session.
    pub session: Session,
    /// Held where no plugin runs, so that none starts meanwhile.
    _lock: Option<Lock>,
}

/// Why this directory cannot act as the writer now. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NoSeat {
    /// A file of the directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory's lock.
    #[error(transparent)]
    Lock(LockError),
    /// The server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The directory is a copy of the one that writes.
    #[error("this directory is a copy of the one that is backed up: type this there")]
    Copied,
    /// Another instance is the writer.
    #[error("another machine is this node's writer: type this there")]
    Elsewhere,
    /// A plugin holds the lock and is not the writer yet, or no more.
    #[error("the plugin is just starting or leaving: try again in a moment")]
    Starting,
    /// Somebody raises the epoch again and again.
    #[error("another machine starts this node again and again: stop it first")]
    Contended,
}

impl Seat {
    /// Opens it at one of the node's servers, where the account stands as it was just read.
    pub async fn take(node: &Node, door: &ServerDoor, account: &AccountState) -> Result<Self, NoSeat> {
        if let Some(claim) = last_claim(node, account.epoch)? {
            match door.open(Some(claim)).await {
                Ok((session, _)) => return Ok(Self { session, _lock: None }),
                Err(error) if error.code() == Some(ProblemCode::EpochMismatch) => {}
                Err(error) => return Err(named(error)),
            }
        }
        let lock = node.directory.lock().map_err(|error| match error {
            LockError::Held => NoSeat::Starting,
            LockError::Io(_) => NoSeat::Lock(error),
        })?;
        let run = RunId(node.ambient.rng.array());
        let mut expected = account.epoch;
        for _ in 0..TRIES {
            let claim = WriterClaim {
                instance: node.instance,
                run,
                expected_epoch: expected,
                epoch: expected + 1,
                takeover: false,
            };
            match door.open(Some(claim)).await {
                Ok((session, _)) => {
                    return Ok(Self {
                        session,
                        _lock: Some(lock),
                    });
                }
                Err(RemoteError::Refused { problem, .. }) if problem.code == ProblemCode::EpochMismatch => {
                    expected = problem.epoch.unwrap_or(expected);
                }
                Err(error) => return Err(named(error)),
            }
        }
        Err(NoSeat::Contended)
    }
}

/// The claim of the run that wrote from this directory last, if it is the one at the server's epoch; `None` where no run
/// wrote yet.
fn last_claim(node: &Node, epoch: u64) -> Result<Option<WriterClaim>, NoSeat> {
    let Some(runs) = node.directory.runs()? else {
        return Ok(None);
    };
    if node.directory.is_copied(&runs)? {
        return Err(NoSeat::Copied);
    }
    let claim = runs
        .runs
        .last()
        .zip(epoch.checked_sub(1))
        .map(|(run, expected_epoch)| WriterClaim {
            instance: node.instance,
            run: *run,
            expected_epoch,
            epoch,
            takeover: false,
        });
    Ok(claim)
}

fn named(error: RemoteError) -> NoSeat {
    match error.code() {
        Some(ProblemCode::OtherInstance) => NoSeat::Elsewhere,
        _ => error.into(),
    }
}
