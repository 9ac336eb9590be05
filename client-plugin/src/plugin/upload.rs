//! A snapshot of the live database, on its way to as many servers as must hold what is acknowledged.

use super::{bridge::tell_complete, servers::Servers};
use crate::{
    node::Node,
    remote::{RemoteError, Session},
    snapshot::{Base, Named, Pace, Plan, UploadError, upload_named},
};
use backstop_protocol::{head::Head, id::SnapshotId};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::task::JoinSet;

/// One snapshot on its way to several servers at once.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) node: Arc<Node>,
    pub(super) file: PathBuf,
    /// The file as it was read while it was checked: for whoever comes first. Others, and later attempts, read it anew.
    pub(super) named: Arc<Mutex<Option<Named>>>,
    pub(super) snapshot: SnapshotId,
    pub(super) base: Base,
    pub(super) data_version: u64,
    pub(super) policy: Option<Vec<u8>>,
    pub(super) progressed: Arc<AtomicBool>,
}

impl Upload {
    /// Sends it to every server that ends in `head`, the snapshot's base, and is not among the `complete` ones; once enough are, the
    /// others are left to a later roll-up.
    pub(super) async fn to_all(
        &self,
        servers: &Servers,
        head: Head,
        complete: &mut BTreeSet<usize>,
    ) -> Result<Result<(), UploadError>, RemoteError> {
        let mut sending = JoinSet::new();
        for (at, session) in servers.at(head) {
            if !complete.contains(&at) {
                let upload = self.clone();
                sending.spawn(async move { (at, upload.to(at, &session).await) });
            }
        }
        let mut failed = None;
        while complete.len() < servers.needed() {
            match sending.join_next().await {
                Some(Ok((at, Ok(())))) => {
                    complete.insert(at);
                }
                Some(Ok((_, Err(error)))) => failed = Some(error),
                Some(Err(_)) => {}
                None => {
                    return match failed {
                        Some(UploadError::Remote(error)) => Err(error),
                        Some(error) => Ok(Err(error)),
                        None => Err(RemoteError::Unreachable {
                            url: "enough servers".to_owned(),
                            reason: "too few of them are there".to_owned(),
                        }),
                    };
                }
            }
        }
        Ok(Ok(()))
    }

    async fn to(&self, at: usize, session: &Session) -> Result<(), UploadError> {
        // Where only the answer to the commit was lost, all is done.
        let newest = session.account().await?.snapshot;
        if newest.is_some_and(|newest| newest.snapshot == self.snapshot) {
            return Ok(());
        }
        let notes = self.file.with_extension(at.to_string());
        let plan = Plan {
            database: &self.file,
            notes: &notes,
            base: self.base,
            snapshot: self.snapshot,
            data_version: self.data_version,
            policy: self.policy.clone(),
            parent: None,
            pace: Pace::Full,
        };
        let mut tell = |done, _| {
            if done > 0 {
                self.progressed.store(true, Ordering::Relaxed);
            }
        };
        let keys = &self.node.keys;
        let read = self.named.lock().unwrap_or_else(PoisonError::into_inner).take();
        let named = match read {
            Some(named) => named,
            None => Named::of(&self.file, &notes, keys).await?,
        };
        let uploaded = upload_named(session, keys, &plan, named, &self.node.ambient.rng, &mut tell).await?;
        tell_complete(session.url(), uploaded.sent_bytes);
        Ok(())
    }
}
