//! A question to all servers at once.

use super::Door;
use crate::remote::RemoteError;
use backstop_protocol::{api::AccountState, session::WriterClaim};
use std::time::Duration;
use tokio::{task::JoinSet, time::timeout};

/// How long the rest may take once as many servers answered as are needed.
pub const GRACE: Duration = Duration::from_secs(2);

/// What one server answered to an opening.
pub struct Answer<S> {
    /// Which of the doors.
    pub at: usize,
    /// The session, and the account as it stands after the opening.
    pub opened: Result<(S, AccountState), RemoteError>,
}

/// Opens a session at each of these doors, all at once, with a claim of its own each. Waits for all of them, but once
/// `enough` of them are open, for the others no longer than [`GRACE`]. The answers stand in the order of the doors.
pub async fn open_all<D: Door>(
    doors: impl IntoIterator<Item = (usize, D, Option<WriterClaim>)>,
    enough: usize,
) -> Vec<Answer<D::Session>> {
    let mut asked = JoinSet::new();
    let mut answers = Vec::new();
    for (at, door, claim) in doors {
        // Until it says something else.
        let silent = RemoteError::Unreachable {
            url: door.url().to_owned(),
            reason: format!("silence for {} s after the others had answered", GRACE.as_secs()),
        };
        answers.push(Answer {
            at,
            opened: Err(silent),
        });
        asked.spawn(async move { (at, door.open(claim).await) });
    }
    let mut open = 0;
    loop {
        let next = if open >= enough {
            // From one to the next, which is longer in all only where servers do answer.
            timeout(GRACE, asked.join_next()).await.unwrap_or_default()
        } else {
            asked.join_next().await
        };
        let Some(done) = next else { return answers };
        let Ok((at, opened)) = done else { continue };
        open += usize::from(opened.is_ok());
        if let Some(answer) = answers.iter_mut().find(|answer| answer.at == at) {
            answer.opened = opened;
        }
    }
}
