//! The thread's own sessions, under the writer's claim: they live on its runtime.

use crate::{
    node::Node,
    quorum::{Answer, newest, open_all},
    remote::{RemoteError, Session},
};
use backstop_protocol::session::WriterClaim;

/// Sessions with all servers that answer.
pub(super) struct Servers {
    /// With the one at the newest head: what is read is read there.
    pub(super) newest: Session,
    /// With the others.
    pub(super) others: Vec<Session>,
}

/// Opens them. A server that this run is not the writer of yet is passed over: its lane sees to it.
pub(super) async fn open(node: &Node, claim: Option<WriterClaim>) -> Result<Servers, RemoteError> {
    let doors = node.doors().into_iter().enumerate();
    let asked = doors.map(|(at, door)| (at, door, claim));
    let (mut opened, mut failed) = (Vec::new(), None);
    for Answer { opened: answer, .. } in open_all(asked, 1).await {
        match answer {
            Ok(open) => opened.push(open),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let accounts = opened.iter().map(|(_, account)| account).enumerate();
    let Some((best, _)) = newest(accounts) else {
        return Err(failed.unwrap_or(RemoteError::Key));
    };
    let (newest, _) = opened.swap_remove(best);
    let others = opened.into_iter().map(|(session, _)| session).collect();
    Ok(Servers { newest, others })
}

impl Servers {
    /// All of them, the newest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Session> {
        std::iter::once(&self.newest).chain(&self.others)
    }
}
