//! Beside the hook: the files beside the database go to the server when they change (SPEC 6.7).
//!
//! Looking, reading and sealing happen on the runtime's blocking threads, and what fails is tried again later and later:
//! no batch ever waits for any of it. CLN writes its recovery file anew with every payment, mostly at its old length,
//! because it notes what the peer revoked; such a change alone travels once an hour, any other at once.

use super::{
    servers::Servers,
    stdio::{self, Level},
};
use crate::{
    files::{self, FileName, Files, Gathered},
    node::Node,
    remote::{RemoteError, Session},
};
use backstop_protocol::{hash::sha256, problem::ProblemCode};
use std::{collections::BTreeSet, os::unix::fs::MetadataExt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a change of the recovery file may wait that leaves its length as it was.
const QUIET: Duration = Duration::from_hours(1);
/// How long to wait at most after a failure.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The tasks that send the files; one for each server in each run.
#[derive(Default)]
pub(super) struct Sending {
    begun: BTreeSet<usize>,
}

impl Sending {
    /// Begins with the servers that were not open before.
    pub(super) fn begin(&mut self, node: &Arc<Node>, servers: &Servers) {
        if self.begun.len() == node.config.servers.len() {
            return;
        }
        for (at, session) in servers.sessions() {
            if self.begun.insert(at) {
                tokio::spawn(send_changes(node.clone(), session));
            }
        }
    }
}

/// What tells a file that may have changed without reading it; `None` where it is not there.
type Mark = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// A file as it was sent: its name, its length, its hash.
type Outline = Vec<(FileName, usize, [u8; 32])>;

async fn send_changes(node: Arc<Node>, session: Arc<Session>) {
    let mut sent = held(&node, &session).await;
    let mut sent_at: Option<Instant> = None;
    let mut seen: Option<Vec<Mark>> = None;
    let mut told = Vec::new();
    let mut pause = LOOK_EVERY;
    let mut failed = false;
    loop {
        // Before the content: what changes while it is read shows at the next look.
        let looked = blocking(&node, marks).await;
        if looked.is_some() && looked != seen {
            let Some(gathered) = blocking(&node, read).await else {
                return;
            };
            tell(&gathered, &mut told);
            let now = outline(&gathered.files);
            if is_due(sent.as_ref(), &now, sent_at.map(|at| at.elapsed())) {
                match send(&node, &session, gathered.files).await {
                    Ok(()) => {
                        if std::mem::take(&mut failed) {
                            stdio::log(Level::Info, "the files beside the database are backed up again");
                        }
                        (sent, sent_at, seen, pause) = (Some(now), Some(Instant::now()), looked, LOOK_EVERY);
                    }
                    Err(error) if is_final(&error) => return,
                    Err(error) => {
                        if !std::mem::replace(&mut failed, true) {
                            stdio::log(
                                Level::Warn,
                                &format!(
                                    "the files beside the database (emergency.recover, config) could not be backed up: \
                                     {error}. The database's own backup goes on; they are tried again"
                                ),
                            );
                        }
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            } else if sent.as_ref().is_none_or(|sent| *sent == now) {
                seen = looked;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// What the server has already; nothing where that cannot be found out, and then it is sent again.
async fn held(node: &Node, session: &Session) -> Option<Outline> {
    let files = files::fetch(session, &node.keys.files, None).await;
    files.ok().flatten().as_ref().map(outline)
}

async fn send(node: &Arc<Node>, session: &Session, files: Files) -> Result<(), RemoteError> {
    let sealed = blocking(node, move |node| {
        files.seal(&node.keys.files, &mut node.ambient.rng.clone())
    });
    match sealed.await {
        Some(Ok(sealed)) => session.put_files(sealed.into()).await,
        // What is read is bounded: it always can be sealed.
        Some(Err(_)) | None => Ok(()),
    }
}

/// Whether this is worth sending, so long after something was sent.
fn is_due(sent: Option<&Outline>, now: &Outline, since: Option<Duration>) -> bool {
    let Some(sent) = sent else {
        return !now.is_empty();
    };
    if sent == now {
        return false;
    }
    let without_content = |outline: &Outline| -> Vec<_> {
        outline
            .iter()
            .map(|(name, len, hash)| (name.clone(), *len, (!name.is_emergency()).then_some(*hash)))
            .collect()
    };
    without_content(sent) != without_content(now) || since.is_none_or(|since| since >= QUIET)
}

/// Another run has become the writer, or this one may not write any more: the hook finds out and says so.
fn is_final(error: &RemoteError) -> bool {
    matches!(
        error.code(),
        Some(ProblemCode::Fenced | ProblemCode::OtherInstance | ProblemCode::EpochMismatch)
    )
}

/// Says once of each file why it does not go along.
fn tell(gathered: &Gathered, told: &mut Vec<String>) {
    for (name, reason) in &gathered.left_out {
        let sentence = format!("{name} is listed in backstop/config.toml and is not backed up: {reason}");
        if !told.contains(&sentence) {
            stdio::log(Level::Warn, &sentence);
            told.push(sentence);
        }
    }
}

fn read(node: &Node) -> Gathered {
    files::gather(&node.network_dir, &node.config.files, node.ambient.clock.now())
}

fn marks(node: &Node) -> Vec<Mark> {
    let mark = |name: &FileName| {
        let file = std::fs::metadata(name.path(&node.network_dir)).ok()?;
        Some((
            file.dev(),
            file.ino(),
            file.len(),
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        ))
    };
    node.config.files.iter().map(mark).collect()
}

fn outline(files: &Files) -> Outline {
    files
        .files
        .iter()
        .map(|file| (file.name.clone(), file.bytes.len(), sha256(&file.bytes)))
        .collect()
}

/// Runs what touches the disk where it holds nobody up; `None` where the process ends.
async fn blocking<T: Send + 'static>(
    node: &Arc<Node>,
    work: impl FnOnce(&Node) -> T + Send + 'static,
) -> Option<T> {
    let node = node.clone();
    tokio::task::spawn_blocking(move || work(&node)).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, len: usize, hash: u8) -> (FileName, usize, [u8; 32]) {
        (name.parse().unwrap(), len, [hash; 32])
    }

    #[test]
    fn a_recovery_file_of_the_same_length_waits_and_everything_else_goes_at_once() {
        let sent = vec![one("config", 5, 1), one("emergency.recover", 57, 1)];
        let just = Some(Duration::ZERO);
        let due = |now: &Outline, since| is_due(Some(&sent), now, since);
        assert!(is_due(None, &sent, None), "nothing was ever sent");
        assert!(!is_due(None, &vec![], None), "nothing is there");
        assert!(!due(&sent, Some(QUIET)), "nothing changed");
        let revoked = vec![one("config", 5, 1), one("emergency.recover", 57, 2)];
        assert!(!due(&revoked, just));
        assert!(due(&revoked, Some(QUIET)));
        assert!(due(&revoked, None), "of an earlier run");
        for now in [
            vec![one("config", 5, 1), one("emergency.recover", 250, 2)],
            vec![one("config", 5, 2), one("emergency.recover", 57, 1)],
            vec![one("config", 5, 1)],
            vec![],
        ] {
            assert!(due(&now, just), "{now:?}");
        }
    }
}
