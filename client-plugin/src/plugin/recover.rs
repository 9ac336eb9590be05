//! Brings the database forward before lightningd opens it (I5).
//!
//! lightningd acts on what it committed, and a power cut can undo a commit: SQLite's is the unlink of its journal,
//! which may not have reached the disk. Such a node would start on a state that its peers know to be revoked. But its
//! backup holds the missing batches, so they are applied here, at `getmanifest`, while nothing else has the file open.

use super::{
    halt::Halted,
    judge::against_witness,
    newest,
    opening::wait_for_lock,
    patience::Patience,
    room::Room,
    servers,
    stdio::{self, Level},
    undrained,
};
use crate::{
    cln::pidfile::{self, Holder},
    directory::{Lock, Runs},
    forward::{missing_batches, prove_equal},
    node::{Ambient, Node},
    quorum::Record,
    record::{Opener, Place, Sealer},
    remote::{RemoteError, Session},
    replay::{Durability, Replay},
    spool::{OnTop, Spooled},
};
use backstop_protocol::{head::Head, id::RunId};
use std::{path::Path, time::Duration};

/// How many versions a power cut can cost: the batch that was committed and acted on, and one that was in flight. A
/// database further behind lost more than its disk promised to keep, or is an old copy.
const POWER_CUT: u64 = 2;

/// How long a start may be held up: lightningd gives its plugins 120 s for `getmanifest`.
const LONGEST: Duration = Duration::from_secs(90);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// The database is where it should be, or it is not for us to say.
    NotNeeded,
    /// This many versions were applied.
    Applied(u64),
    /// It may be behind and was left alone.
    Impossible(String),
}

/// Brings the database in `network_dir` forward where this directory's own records show that it lost some. Also
/// returns the directory's lock where it was taken.
///
/// `getmanifest` also comes from `lightningd --help` beside a running node: then nothing is touched.
pub(super) async fn recover(network_dir: &Path, ambient: &Ambient) -> (Recovery, Option<Lock>) {
    // What is wrong with the setup is said at the first batch, where it can also be answered.
    let Ok(node) = Node::load(network_dir, ambient.clone()) else {
        return (Recovery::NotNeeded, None);
    };
    let Ok(Some(runs)) = node.directory.runs() else {
        return (Recovery::NotNeeded, None);
    };
    if !node.database().exists() || node.directory.is_copied(&runs).unwrap_or(true) {
        return (Recovery::NotNeeded, None);
    }
    if !matches!(pidfile::holder(node.files.pidfile()), Ok(Holder::Nobody)) {
        return (Recovery::NotNeeded, None);
    }
    // Nobody holds the pidfile, so whoever holds the lock has lost its lightningd.
    let Ok(lock) = wait_for_lock(&node.directory).await else {
        return (Recovery::NotNeeded, None);
    };
    let recovery = match bring_forward(&node, &runs).await {
        Ok(0) => Recovery::NotNeeded,
        Ok(by) => {
            stdio::log(
                Level::Warn,
                &format!(
                    "The database had lost its last {by} update(s), as after a power cut. They were applied from the backup: \
                     the node goes on with the state it last acted on."
                ),
            );
            Recovery::Applied(by)
        }
        Err(halted) => Recovery::Impossible(halted.to_string()),
    };
    (recovery, Some(lock))
}

/// Applies what is missing; returns how many versions that were.
async fn bring_forward(node: &Node, runs: &Runs) -> Result<u64, Halted> {
    let failed = |error: &dyn std::fmt::Display| Halted::new(error.to_string());
    let mut replay = Replay::open(&node.database(), Durability::Full).map_err(|error| failed(&error))?;
    // Before lightningd's very first commit there is nothing at all.
    let database = replay.data_version().unwrap_or(0);
    let witness = node.directory.witness().map_err(|error| failed(&error))?;
    if runs.clean && witness.is_some_and(|witness| witness.data_version == database) {
        return Ok(0);
    }
    let (session, account) = node.open_reader().await.map_err(|error| failed(&error))?;
    // What is in the spool is this directory's own, and part of the backup as soon as it is drained.
    let spooled = Spooled::read(&node.directory.spool()).map_err(|error| failed(&error))?;
    let (session, account) = OnTop::new(session, account, spooled.as_ref());
    let opener = Opener::new(&node.keys.record);
    let Some(last) = newest::last(&session, &opener, &account)
        .await
        .map_err(|error| failed(&error))??
    else {
        return Ok(0);
    };
    let foreign = account
        .timeline
        .zip(witness)
        .is_some_and(|(timeline, witness)| against_witness(&witness, timeline, last.head).is_some());
    let Some(backup) = last.data_version.filter(|backup| *backup > database) else {
        return Ok(0);
    };
    if foreign || !runs.knows(last.wrote) {
        // The first batch is refused with the reason.
        return Ok(0);
    }
    let by = backup - database;
    if database == 0 && (runs.clean || by > POWER_CUT) {
        // That was no power cut: the database is gone. The first batch is refused with the way to get it back.
        return Ok(0);
    }
    let work = async {
        let confirmed = if node.config.servers.len() > 1 {
            Some(confirm(node).await?)
        } else {
            None
        };
        let (session, head, runs) = match &confirmed {
            Some((session, head)) => (session, *head, node.directory.runs()?),
            None => (&session, last.head, Some(runs.clone())),
        };
        if runs.as_ref().is_some_and(|runs| runs.clean) || by > POWER_CUT {
            prove_equal(node, session, head, &replay, database)
                .await
                .map_err(|error| failed(&error))?;
        }
        let knows = |run| runs.as_ref().is_some_and(|runs| runs.knows(run));
        let missing = missing_batches(node, session, head, database, knows).await;
        missing.map_err(|error| failed(&error))
    };
    let missing = match tokio::time::timeout(LONGEST, work).await {
        Ok(missing) => missing?,
        Err(_) => {
            return Err(Halted::new(
                "the backup is too large to be compared within a start of lightningd",
            ));
        }
    };
    for batch in &missing {
        replay.apply(batch).map_err(|error| failed(&error))?;
    }
    replay.finish().map_err(|error| failed(&error))?;
    Ok(by)
}

/// Of several servers one that is away may have another record in the place of what was found. So before anything is applied, a
/// record of a run of its own follows what was found and what the spool adds to it, at as many servers as must hold what is
/// acknowledged (SPEC 8.4). Returns where the backup ends then.
async fn confirm(node: &Node) -> Result<(OnTop<Session>, Head), Halted> {
    let remote = |error: RemoteError| Halted::new(error.to_string());
    let run = RunId(node.ambient.rng.array());
    let witness = node.directory.witness()?;
    let mut expected = witness.map_or(0, |witness| witness.head.epoch);
    let (servers, ended) = servers::open(node, run, &mut expected).await.map_err(remote)?;
    let Some(timeline) = ended.account.timeline.filter(|_| ended.whole) else {
        return Err(Halted::new("too few servers restore by themselves"));
    };
    let patience = Patience::of(node);
    let opener = Opener::new(&node.keys.record);
    let last = newest::last(&*ended.session, &opener, &ended.account)
        .await
        .map_err(remote)??;
    let found = (&*ended.session, ended.account, last);
    let (account, _) = undrained::drain(node, &patience, &servers, found).await?;
    node.directory.begin_run(run)?;
    let place = Place {
        timeline,
        epoch: account.epoch,
        seq: account.head.seq + 1,
        prev: account.head.hash,
    };
    let mut rng = node.ambient.rng.clone();
    let sealed = Sealer::new(&node.keys.record)
        .seal(place, &node.config.policy(run, true, node.machine()), &mut rng)
        .map_err(|error| Halted::new(error.to_string()))?;
    let record = Record {
        head: sealed.header.head(sealed.hash),
        prev: place.prev,
        sealed: sealed.bytes,
    };
    servers
        .append(&record, &mut Room::default(), &patience, &node.network_dir)
        .await?;
    let (session, account) = node.open_reader().await.map_err(remote)?;
    if account.head == record.head {
        let (session, _) = OnTop::new(session, account, None);
        Ok((session, record.head))
    } else {
        Err(Halted::new("another machine wrote to the backup meanwhile"))
    }
}
