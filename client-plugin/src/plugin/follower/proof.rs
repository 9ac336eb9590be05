//! The proof of the backup: what it gives, beside what lightningd has.

use super::{servers::Servers, trouble::Trouble, worker::Worker};
use crate::{
    plugin::stdio::{self, Level},
    remote::{RemoteError, Session},
    replay::compare::{self, Difference},
    shadow::Shadow,
    snapshot::{
        Base,
        copy::{self, Copied, CopyError, Expected},
    },
};
use backstop_protocol::{api::ProofReport, head::Head};
use rusqlite::{Connection, OpenFlags};
use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

/// Pauses between the attempts to tell the server what was found.
const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
    Duration::from_mins(1),
];

/// The files of the live database, taken inside the hook, at the first batch of a run.
#[derive(Clone)]
pub(in crate::plugin) struct ProofCopy {
    /// For [`copy::recover`].
    pub(in crate::plugin) taken: PathBuf,
    /// What it must be.
    pub(in crate::plugin) expected: Expected,
    /// The record after which the database stood so.
    pub(in crate::plugin) head: Head,
}

/// Compares the shadow, which stands where the copy was taken, with the copy. Where they differ, the copy becomes the
/// shadow, so that the next snapshot is what lightningd has; what the backup held before is kept for who wants to know why.
/// Nothing of that happens before the server knows: from then on it drops nothing, and the next start takes a snapshot
/// of the live database where this run does not come to it.
pub(super) async fn compare(
    worker: &mut Worker,
    servers: &Servers,
    shadow: Shadow,
    proof: &ProofCopy,
) -> Result<Shadow, Trouble> {
    let file = match copy::recover(&proof.taken, proof.expected) {
        Ok(Copied::Copy(file)) => file,
        Ok(Copied::BrandNew) => return Ok(shadow),
        Err(error) => {
            tell_unusable(&error);
            return Ok(shadow);
        }
    };
    let difference = differing(&shadow, &file).map_err(|error| Trouble::Shadow(error.into()));
    let difference = match difference {
        Ok(difference) => difference,
        Err(trouble) => {
            // The copy is of no use without a shadow; the first error is the one to report.
            let _ = copy::remove(&file);
            return Err(trouble);
        }
    };
    let report = ProofReport {
        seq: proof.head.seq,
        equal: difference.is_none(),
    };
    tell_servers(servers, report).await?;
    let Some(difference) = difference else {
        stdio::log(
            Level::Info,
            &format!(
                "The backup is proved: up to record {} it gives exactly the database that lightningd has",
                proof.head.seq
            ),
        );
        // What cannot be removed now is removed by the next copy.
        let _ = copy::remove(&file);
        return Ok(shadow);
    };
    tell_wrong(&difference, proof);
    take_over(worker, shadow, &file, proof)
}

/// The same where `shadow`, which was made of the backup, got stuck with `trouble` before it stood where the copy was
/// taken: nor would a restore get there.
pub(super) async fn replace(
    worker: &mut Worker,
    servers: &Servers,
    shadow: Shadow,
    proof: &ProofCopy,
    trouble: Trouble,
) -> Result<Shadow, Trouble> {
    let file = match copy::recover(&proof.taken, proof.expected) {
        Ok(Copied::Copy(file)) => file,
        Ok(Copied::BrandNew) => return Err(trouble),
        Err(error) => {
            tell_unusable(&error);
            return Err(trouble);
        }
    };
    let report = ProofReport {
        seq: proof.head.seq,
        equal: false,
    };
    tell_servers(servers, report).await?;
    tell_wrong(&trouble, proof);
    take_over(worker, shadow, &file, proof)
}

/// Without a copy of the live database nothing can replace a backup that leads nowhere before the next start. The server
/// must know: from then on it drops nothing, and that start takes a snapshot of the live database.
pub(super) async fn tell_unusable_backup(servers: &Servers, trouble: Trouble) -> Trouble {
    let told = async {
        let report = ProofReport {
            seq: servers.newest.account().await?.head.seq,
            equal: false,
        };
        tell_servers(servers, report).await
    };
    match (told.await, trouble) {
        (Err(error), _) => error.into(),
        (Ok(()), Trouble::Shadow(error)) => Trouble::Unusable(Box::new(error)),
        (Ok(()), trouble) => trouble,
    }
}

fn tell_wrong(what: &dyn std::fmt::Display, proof: &ProofCopy) {
    stdio::log(
        Level::Error,
        &format!(
            "THE BACKUP WAS WRONG: {what}, where it should give the node's own database as it stood after record {}. The \
             node goes on, and a new snapshot of its own database is uploaded now: from then on that is what a restore \
             gives. What the backup held before is kept on the server. Please report this; then type: backstop accept",
            proof.head.seq
        ),
    );
}

/// The copy becomes the shadow, of which a roll-up is wanted at once.
fn take_over(
    worker: &mut Worker,
    shadow: Shadow,
    copy: &std::path::Path,
    proof: &ProofCopy,
) -> Result<Shadow, Trouble> {
    let (base, policy) = (
        Base {
            timeline: worker.timeline,
            seq: proof.head.seq,
            hash: proof.head.hash,
        },
        shadow.position().policy().map(<[u8]>::to_vec),
    );
    drop(shadow);
    worker.unproved = true;
    let shadow = Shadow::adopt(&worker.node.directory.shadow(), copy, base, policy)?;
    worker.shared.wanted.store(true, Ordering::Relaxed);
    Ok(shadow)
}

async fn tell_servers(servers: &Servers, report: ProofReport) -> Result<(), RemoteError> {
    tell_server(&servers.newest, report).await?;
    for session in &servers.others {
        // One that is away hears of the next one.
        let _ = session.report_proof(report).await;
    }
    Ok(())
}

async fn tell_server(session: &Session, report: ProofReport) -> Result<(), RemoteError> {
    for pause in PAUSES {
        match session.report_proof(report).await {
            Err(error) if error.is_passing() => tokio::time::sleep(pause).await,
            told => return told.map(|_| ()),
        }
    }
    session.report_proof(report).await.map(|_| ())
}

fn differing(
    shadow: &Shadow,
    copy: &std::path::Path,
) -> Result<Option<Difference>, crate::replay::ReplayError> {
    let copy = Connection::open_with_flags(
        copy,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    Ok(compare::difference(shadow.replay().database(), &copy)?)
}

fn tell_unusable(error: &CopyError) {
    let message = match error {
        CopyError::Damaged(complaint) => format!(
            "THE NODE'S OWN DATABASE IS DAMAGED: {complaint}. The backup is not: it is built from what lightningd wrote, not \
             from this file. Stop the node, keep the damaged file, and restore: backstop restore --help"
        ),
        error => format!("The proof of the backup was put off to the next start: {error}"),
    };
    let level = if matches!(error, CopyError::Damaged(_)) {
        Level::Error
    } else {
        Level::Warn
    };
    stdio::log(level, &message);
}
