//! A snapshot of the live database, taken where it must be: at the first batch of a run, while lightningd stands still
//! in its hook and nobody writes (I2, CLN reference 3.2).

use super::{
    follower::{ProofCopy, Start},
    halt::Halted,
    servers::Servers,
    stdio::{self, Level},
    upload::Upload,
    writer::Writer,
};
use crate::{
    blocking::blocking,
    durable,
    record::{Content, Gap},
    remote::{RemoteError, Session},
    restore::{
        Patient, RestoreError,
        policy::{self, Depth},
    },
    shadow,
    snapshot::{
        Base, Named, Pace, Plan,
        copy::{self, Copied, Expected},
        upload_named,
    },
};
use backstop_protocol::{api::AccountState, id::SnapshotId};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

/// How long the copy for a proof may hold up a start; a start has no limit of lightningd's, but an operator has.
const PROOF_COPY: Duration = Duration::from_secs(20);

/// Copies the database, appends the gap that names the snapshot, and uploads it. Returns once the snapshot is
/// complete on the server: only then may the batch behind the gap be acknowledged. The copy is the shadow's beginning.
pub(super) async fn take_snapshot(writer: &mut Writer) -> Result<Option<Start>, Halted> {
    // Of no use behind a gap, and the copy needs its room.
    if let Err(error) = shadow::remove(&writer.node.directory.shadow()) {
        stdio::log(Level::Warn, &error.to_string());
    }
    let Some((file, named)) = copied(writer).await.map_err(|reason| {
        Halted::new(format!(
            "The database cannot be backed up: {reason}. The node is halted before it changes anything; an earlier backup, where \
             there is one, is untouched."
        ))
    })?
    else {
        // Nothing was ever committed: the log starts from nothing.
        return Ok(Some(Start::Empty));
    };
    let snapshot = SnapshotId(writer.node.ambient.rng.array());
    let gap = Gap {
        run: writer.run,
        opens_run: writer.opens_run,
        data_version: writer.version,
        snapshot,
    };
    if let Servers::Several(several) = &writer.servers {
        several.begin_gap();
    }
    writer.append(Content::Gap(gap)).await?;
    let policy = policy_record(writer).await?;
    let base = base(writer);
    send(writer, (file.path(), named), snapshot, base, policy.clone()).await?;
    writer.node.directory.set_migrated(false)?;
    Ok(begins_with(writer, file, base, policy))
}

/// Takes a snapshot of the live database where the backup ends just there, because one is due: no gap, since nothing is
/// missing. The backup restores without it as it did, so whatever goes wrong is told and tried again at the next start
/// (I13). Returns where the shadow begins; `None` where there is no new snapshot.
pub(super) async fn renew_snapshot(writer: &Writer) -> Option<Start> {
    let taken = try_to_renew(writer).await;
    match taken {
        Ok(start) => start,
        Err(reason) => {
            stdio::log(
                Level::Warn,
                &format!(
                    "The snapshot is put off to the next start: {reason}. The node goes on, backed up as it was."
                ),
            );
            None
        }
    }
}

async fn try_to_renew(writer: &Writer) -> Result<Option<Start>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (live, work) = (writer.node.database(), writer.node.directory.work());
    let len = std::fs::metadata(live).map_err(|error| told(&error))?.len();
    durable::need_room(&work.map_err(|error| told(&error))?, len).map_err(|error| told(&error))?;
    let Some((file, named)) = copied(writer).await? else {
        return Ok(None);
    };
    let mut named = Some(named);
    let policy = policy_record(writer).await.map_err(|halted| halted.to_string())?;
    let base = base(writer);
    let plan = plan(
        writer,
        file.path(),
        SnapshotId(writer.node.ambient.rng.array()),
        base,
        policy.clone(),
    );
    let rng = &writer.node.ambient.rng;
    for (_, session) in writer.servers.at(writer.head) {
        let server = Patient::new(&*session, Patient::<Session>::PAUSES);
        let sent = async {
            let named = match named.take() {
                Some(named) => named,
                None => Named::of(plan.database, plan.notes, &writer.node.keys).await?,
            };
            upload_named(&server, &writer.node.keys, &plan, named, rng, &mut |_, _| {}).await
        };
        let uploaded = sent.await.map_err(|error| told(&error))?;
        tell_complete(session.url(), uploaded.sent_bytes);
    }
    let noted = writer.node.directory.set_migrated(false);
    noted.map_err(|error| error.to_string())?;
    Ok(begins_with(writer, file, base, policy))
}

/// The copy is the shadow's beginning, where there is to be one.
fn begins_with(writer: &Writer, file: WorkFile, base: Base, policy: Option<Vec<u8>>) -> Option<Start> {
    writer.node.config.shadow.keep.then(|| Start::Copy {
        file: file.keep(),
        base,
        policy,
    })
}

/// Where the backup ends now.
fn base(writer: &Writer) -> Base {
    Base {
        timeline: writer.timeline,
        seq: writer.head.seq,
        hash: writer.head.hash,
    }
}

fn plan<'a>(
    writer: &Writer,
    database: &'a Path,
    snapshot: SnapshotId,
    base: Base,
    policy: Option<Vec<u8>>,
) -> Plan<'a> {
    Plan {
        database,
        notes: database,
        base,
        snapshot,
        data_version: writer.version,
        policy,
        parent: None,
        pace: Pace::Full,
    }
}

pub(super) fn tell_complete(url: &str, sent: u64) {
    stdio::log(
        Level::Info,
        &format!("The snapshot is complete on the server {url}: {sent} bytes sent"),
    );
}

/// Takes the live database's files where a comparison with the backup is due. No reason to hold the node up when it
/// cannot be done: the next start tries again.
pub(super) async fn copy_for_proof(writer: &Writer, account: &AccountState) -> Option<ProofCopy> {
    let config = writer.node.config.shadow;
    let every = config.prove_every_hours.saturating_mul(3_600_000);
    let is_due = account
        .proof
        .is_none_or(|proof| account.time.millis_since(proof.at) >= every);
    // The backup began in this very run, or a batch of PRAGMAs left the copy's settings open.
    if !config.keep || !is_due || writer.head.is_empty() {
        return None;
    }
    let live = writer.node.database();
    let work = writer.node.directory.work().ok()?;
    let taken = tokio::task::spawn_blocking(move || {
        durable::need_room(&work, std::fs::metadata(&live)?.len())?;
        copy::take(&live, &work, Some(PROOF_COPY))
    })
    .await;
    match taken {
        Ok(Ok(taken)) => Some(ProofCopy {
            taken,
            expected: expected(writer),
            head: writer.head,
        }),
        Ok(Err(error)) => {
            stdio::log(
                Level::Warn,
                &format!("The proof of the backup is put off to the next start: {error}"),
            );
            None
        }
        Err(_) => None,
    }
}

/// What a copy of the live database must turn out to be.
fn expected(writer: &Writer) -> Expected {
    Expected {
        data_version: writer.version,
        node: writer.node.config.node,
    }
}

/// The copy; removed when it is no longer needed.
struct WorkFile(Option<PathBuf>);

impl WorkFile {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Somebody else's from now on.
    fn keep(mut self) -> PathBuf {
        self.0.take().unwrap_or_default()
    }
}

impl Drop for WorkFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What cannot be removed now is overwritten by the next copy.
            let _ = copy::remove(path);
        }
    }
}

/// The live database, copied, checked, and its chunks named; the two last at once, for lightningd waits, and nothing relies on the
/// names before the check is good. `None`: nothing was ever committed. Else why there is no copy.
async fn copied(writer: &Writer) -> Result<Option<(WorkFile, Named)>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (live, work) = (writer.node.database(), writer.node.directory.work());
    let (work, expected) = (work.map_err(|error| told(&error))?, expected(writer));
    let file = match blocking(move || copy::copy(&live, &work, expected)).await {
        Ok(Copied::Copy(path)) => WorkFile(Some(path)),
        Ok(Copied::BrandNew) => return Ok(None),
        Err(error) => return Err(told(&error)),
    };
    let path = file.path().to_owned();
    let (checked, named) = tokio::join!(
        blocking(move || copy::check(&path)),
        Named::of(file.path(), file.path(), &writer.node.keys),
    );
    checked.map_err(|error| told(&error))?;
    let named = named.map_err(|error| told(&error))?;
    Ok(Some((file, named)))
}

/// Returns once the snapshot is complete at as many servers as must hold what is acknowledged (I2).
async fn send(
    writer: &Writer,
    (file, named): (&Path, Named),
    snapshot: SnapshotId,
    base: Base,
    policy: Option<Vec<u8>>,
) -> Result<(), Halted> {
    let progressed = Arc::<AtomicBool>::default();
    let upload = Upload {
        node: Arc::clone(&writer.node),
        file: file.to_owned(),
        named: Arc::new(Mutex::new(Some(named))),
        snapshot,
        base,
        data_version: writer.version,
        policy,
        progressed: Arc::clone(&progressed),
    };
    let mut complete = BTreeSet::new();
    writer
        .patience
        .until_done_or_stuck(
            "snapshot of the database",
            &writer.node.network_dir,
            &progressed,
            async || upload.to_all(&writer.servers, writer.head, &mut complete).await,
        )
        .await?
        .map_err(|error| {
            Halted::new(format!(
                "The snapshot cannot be made: {error}. The node is halted; nothing is lost."
            ))
        })?;
    if let Servers::Several(several) = &writer.servers {
        several.end_gap(&complete);
    }
    Ok(())
}

/// The last policy record, as it stands in the log or in the newest snapshot's manifest: the new manifest carries it on, so that it
/// outlives the log.
async fn policy_record(writer: &Writer) -> Result<Option<Vec<u8>>, Halted> {
    let asked = async || {
        let sessions = writer.servers.at(writer.head);
        let Some((_, session)) = sessions.first() else {
            return Err(RemoteError::Unreachable {
                url: "any server".to_owned(),
                reason: "none is at the newest record".to_owned(),
            });
        };
        let account = session.account().await?;
        match policy::sealed(&**session, &writer.node.keys, &account, Depth::Full).await {
            Err(RestoreError::Remote(error)) => Err(error),
            found => Ok(found.map_err(|error| (error, session.url().to_owned()))),
        }
    };
    let policy = writer
        .patience
        .until_done("snapshot of the database", &writer.node.network_dir, asked)
        .await?;
    let policy = policy.map_err(|(error, url)| {
        Halted::new(format!(
            "What the backup on {url} says about its servers cannot be read: {error}. The node is halted; nothing is lost. \
             Either the key file or the server is not the right one."
        ))
    })?;
    Ok(policy.map(|(_, sealed)| sealed.to_vec()))
}
