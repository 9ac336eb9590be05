//! From a server's records and chunks to a database in its place (I9).
//!
//! In order: the account is read again; the newest complete snapshot on the chain is downloaded beside the
//! database's future place; the records after it are applied; the result is checked; where the caller fenced the node
//! off, the head is read once more; and only then the file is renamed, where no other file is. Whatever goes wrong
//! before that leaves nothing behind; but a download that was cut stays beside the database's place, and the next attempt goes on with
//! what of it proves right.

mod base;
mod chain;
mod counted;
mod error;
mod history;
mod patient;
pub mod policy;
mod server;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod work;

pub(crate) use base::choose as choose_base;
pub(crate) use chain::Chain;
pub use counted::Counted;
pub use error::{BadChain, RestoreError};
pub use history::{Beyond, History};
pub use patient::Patient;
pub use server::BackupServer;
pub(crate) use tail::start as start_of;
pub use work::{left, vacant};

use crate::{
    blocking::blocking,
    keys::Keys,
    record::{Opener, Policy},
    snapshot::{self, FetchError},
};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    clock::{Clock, UnixMillis},
    head::Head,
    id::{NodeId, ServerKey, TimelineId},
    record::{RecordHeader, RecordKind},
};
use base::Base;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tail::Tail;
use work::Work;

/// What is to be restored, and where to.
pub struct Request<'a> {
    /// The node's keys.
    pub keys: &'a Arc<Keys>,
    /// The node.
    pub node: NodeId,
    /// The server's key: the node's last word on its servers must name it.
    pub server: ServerKey,
    /// The policy by which the caller chose its servers: where the node's last word is another one, nothing is restored. `None`: for
    /// a look.
    pub policy: Option<&'a Policy>,
    /// The head that the records must lead to.
    pub goal: Goal,
    /// Where to stop before it, to look at an earlier state; `None`: the newest, which alone a node may start on.
    pub until: Option<Until>,
    /// Where the database shall stand. Its directory must exist; the database and its journals must not.
    pub database: &'a Path,
}

/// The head that the records must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The one at which the caller's takeover fenced every other writer off (I7). It must stay the head to the end of
    /// the restore: a node is started on nothing else.
    Fenced(Head),
    /// The one that the caller read. Whatever is appended meanwhile is left out: for a look, beside the running node.
    Seen(Head),
}

impl Goal {
    /// The head.
    #[must_use]
    pub fn head(&self) -> Head {
        match self {
            Self::Fenced(head) | Self::Seen(head) => *head,
        }
    }
}

/// An earlier state than the head's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The database at this version.
    Version(u64),
    /// The database after this record, at most the head's seq.
    Record(u64),
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes of the snapshot's database that are there.
    Snapshot {
        /// Bytes there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Records applied.
    Records {
        /// Records applied.
        done: u64,
        /// Records in all.
        total: u64,
    },
    /// The database is complete and being checked.
    Checking,
}

/// A database in its place.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Where it stands.
    pub database: PathBuf,
    /// Its length, bytes.
    pub database_len: u64,
    /// The head that the records were proved to lead to; without [`Request::until`] its state.
    pub head: Head,
    /// The last record that is in it.
    pub seq: u64,
    /// CLN's counter in it.
    pub data_version: u64,
    /// When the server received the last record.
    pub received_at: Option<UnixMillis>,
    /// The snapshot that it started from; `None`: from the very first record.
    pub snapshot: Option<SnapshotInfo>,
    /// Records that were applied to it.
    pub records: u64,
    /// The node in it; `None` where lightningd's first start did not get far enough to write it.
    pub node: Option<NodeId>,
    /// The servers that the node wrote to, by the last word on it.
    pub policy: Option<Policy>,
    /// Rows that refer to missing ones and did so in the snapshot already: lightningd lived with them.
    pub orphans: usize,
    /// How long it took, milliseconds.
    pub elapsed_ms: u64,
}

/// Restores a node's database. `progress` hears how far it is.
///
/// Databases are read and written on the runtime's blocking threads. Memory holds two pages of records and a few packs, whatever the
/// length of the database. Where the line is cut, or nobody waits any more, what was downloaded stays for the next call.
pub async fn restore(
    server: &impl BackupServer,
    request: &Request<'_>,
    clock: &dyn Clock,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Restored, RestoreError> {
    let began = clock.now();
    let account = account(server, request.goal).await?;
    let work = Work::begin(request.database)?;
    let restored = restore_in(&work, server, request, account, progress).await;
    if restored.as_ref().is_err_and(|error| !error.is_cut()) {
        work.keep(false);
    }
    restored.map(|restored| Restored {
        elapsed_ms: clock.now().millis_since(began),
        ..restored
    })
}

async fn restore_in(
    work: &Work,
    server: &impl BackupServer,
    request: &Request<'_>,
    account: AccountState,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Restored, RestoreError> {
    let timeline = account.timeline.ok_or(RestoreError::Nothing)?;
    let base = base::choose(server, &request.keys.manifest, &account, request.until).await?;
    let flushing = if let Some(base) = &base {
        let mut tell = |done, total| progress(Progress::Snapshot { done, total });
        work.keep(true);
        let flushing = snapshot::go_on(server, request.keys, &base.manifest, &work.database(), &mut tell)
            .await
            .map_err(|error| fetching(request.database, error))?;
        Some(flushing)
    } else {
        work.start_anew()?;
        None
    };
    let tail = apply(server, request, timeline, base.as_ref(), work, progress).await?;
    progress(Progress::Checking);
    let (node, key) = (request.node, request.server);
    tail.follows(request.policy)?;
    let (tail, proof) = blocking(move || tail.prove(node, key).map(|proof| (tail, proof))).await?;
    let summary = blocking(move || tail.finish()).await?;
    if let Some(flushing) = flushing {
        // Begun when the snapshot was there; all that came since was flushed by now.
        blocking(move || flushing.end())
            .await
            .map_err(|error| RestoreError::io(request.database, error))?;
    }

    // The last word before the last step: nobody wrote while this restore believed itself alone.
    if let Goal::Fenced(_) = request.goal {
        self::account(server, request.goal).await?;
    }
    let database_len = work.put_in_place()?;
    Ok(Restored {
        database: request.database.to_owned(),
        database_len,
        head: account.head,
        seq: summary.seq,
        data_version: proof.data_version,
        received_at: summary.received_at.or(account
            .head_received_at
            .filter(|_| summary.seq == account.head.seq)),
        snapshot: base.map(|base| base.info),
        records: summary.records,
        node: proof.node,
        policy: summary.policy,
        orphans: proof.orphans,
        elapsed_ms: 0,
    })
}

/// Whether these keys open what a server holds of a node: the newest record that it gives.
pub async fn opens(
    server: &impl BackupServer,
    keys: &Keys,
    account: &AccountState,
) -> Result<bool, RestoreError> {
    let page = server.records(account.head.seq).await?;
    let Some((_, sealed)) = page.first() else {
        return Ok(false);
    };
    Ok(match RecordHeader::parse(sealed).map(|header| header.kind) {
        Ok(RecordKind::Batch) => Opener::new(&keys.record).peek(sealed).is_ok(),
        Ok(_) => Opener::new(&keys.record).open(sealed).is_ok(),
        Err(_) => false,
    })
}

/// The account with the head of `goal`; [`RestoreError::Moved`] where that was fenced and is the head no more.
async fn account(server: &impl BackupServer, goal: Goal) -> Result<AccountState, RestoreError> {
    let account = server.account().await?;
    match goal {
        Goal::Fenced(fenced) if account.head != fenced => Err(RestoreError::Moved {
            fenced,
            now: account.head,
        }),
        Goal::Seen(head) if account.head != head => Ok(AccountState {
            head,
            // When it arrived stands beside the record, if anywhere.
            head_received_at: None,
            ..account
        }),
        _ => Ok(account),
    }
}

/// Brings the database in `work` to the head.
async fn apply(
    server: &impl BackupServer,
    request: &Request<'_>,
    timeline: TimelineId,
    base: Option<&Base>,
    work: &Work,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Tail, RestoreError> {
    let key = &request.keys.record;
    let last = match request.until {
        Some(Until::Record(seq)) => seq,
        _ => request.goal.head().seq,
    };
    let after_base = base.map_or(0, |base| base.info.base_seq).saturating_add(1);
    let read = async |from: u64| {
        if from > last {
            Ok(Vec::new())
        } else {
            server.records(from).await
        }
    };

    let mut page = read(after_base).await?;
    let start = tail::start(key, after_base, &page)?;
    if start < after_base {
        page = read(start).await?;
    }
    let manifest = base.map(|base| &base.manifest);
    let mut tail = Tail::begin(
        &work.database(),
        key,
        timeline,
        start,
        manifest,
        request.goal,
        request.until,
    )?;
    tail = blocking(move || tail.look_for_orphans().map(|()| tail)).await?;
    let total = last.saturating_sub(after_base).saturating_add(1);
    while !page.is_empty() && !tail.has_arrived() {
        progress(Progress::Records {
            done: tail.summary().records,
            total,
        });
        let next = tail.next().saturating_add(page.len() as u64);
        // The next page travels while this one is applied.
        let applied = blocking(move || tail.take(&page).map(|()| tail));
        let (applied, following) = tokio::join!(applied, read(next));
        (tail, page) = (applied?, following?);
    }
    progress(Progress::Records {
        done: tail.summary().records,
        total,
    });
    tail.end()?;
    Ok(tail)
}

/// What a failed download means for a restore.
pub(crate) fn fetching(database: &Path, error: FetchError) -> RestoreError {
    match error {
        FetchError::Io(error) => RestoreError::io(database, error),
        FetchError::Remote(error) => error.into(),
        FetchError::Scratch(error) if error.is_full() => RestoreError::Full,
        other => RestoreError::Fetch(other),
    }
}
