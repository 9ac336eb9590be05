//! A snapshot of the live database, taken where it must be: at the first batch of a run, while lightningd stands still
//! in its hook and nobody writes (I2, CLN reference 3.2).

use super::{
    halt::Halted,
    stdio::{self, Level},
    writer::Writer,
};
use crate::{
    record::{Content, Gap},
    snapshot::{
        Base, Plan, UploadError,
        copy::{self, Copied, Expected},
        upload,
    },
};
use backstop_protocol::{
    id::SnapshotId,
    record::{RecordHeader, RecordKind},
};
use std::path::{Path, PathBuf};

/// Copies the database, appends the gap that names the snapshot, and uploads it. Returns once the snapshot is
/// complete on the server: only then may the batch behind the gap be acknowledged.
pub(super) async fn take_snapshot(writer: &mut Writer) -> Result<(), Halted> {
    let Some(file) = copy_database(writer).await? else {
        // Nothing was ever committed: the log starts from nothing.
        return Ok(());
    };
    let snapshot = SnapshotId(writer.node.ambient.rng.array());
    let gap = Gap {
        run: writer.run,
        opens_run: writer.opens_run,
        data_version: writer.version,
        snapshot,
    };
    writer.append(&Content::Gap(gap)).await?;
    send(writer, file.path(), snapshot).await
}

/// The copy; removed when it is no longer needed.
struct WorkFile(PathBuf);

impl WorkFile {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkFile {
    fn drop(&mut self) {
        // What cannot be removed now is overwritten by the next copy.
        let _ = copy::remove(&self.0);
    }
}

async fn copy_database(writer: &Writer) -> Result<Option<WorkFile>, Halted> {
    let live = writer.node.database();
    let work = writer.node.directory.work()?;
    let expected = Expected {
        data_version: writer.version,
        node: writer.node.config.node,
    };
    let copied = tokio::task::spawn_blocking(move || copy::copy(&live, &work, expected)).await;
    match copied {
        Ok(Ok(Copied::BrandNew)) => Ok(None),
        Ok(Ok(Copied::Copy(path))) => Ok(Some(WorkFile(path))),
        Ok(Err(error)) => Err(Halted::new(format!(
            "The database cannot be backed up: {error}. The node is halted before it changes anything; an earlier backup, \
             where there is one, is untouched."
        ))),
        Err(_) => Err(Halted::new(
            "The copy of the database was interrupted. The node is halted; nothing is lost.",
        )),
    }
}

async fn send(writer: &mut Writer, file: &Path, snapshot: SnapshotId) -> Result<(), Halted> {
    let policy = policy_record(writer).await?;
    let plan = Plan {
        database: file,
        base: Base {
            timeline: writer.timeline,
            seq: writer.head.seq,
            hash: writer.head.hash,
        },
        snapshot,
        data_version: writer.version,
        policy,
        parent: None,
    };
    let (session, node) = (&writer.session, &writer.node);
    let sent = writer
        .patience
        .until_done("snapshot of the database", &writer.node.network_dir, async || {
            // Where only the answer to the commit was lost, all is done.
            if session
                .account()
                .await?
                .snapshot
                .is_some_and(|newest| newest.snapshot == snapshot)
            {
                return Ok(Ok(0));
            }
            match upload(
                &**session,
                &node.keys,
                &plan,
                &mut node.ambient.rng.clone(),
                &mut |_, _| {},
            )
            .await
            {
                Ok(uploaded) => Ok(Ok(uploaded.sent_bytes)),
                Err(UploadError::Remote(error)) => Err(error),
                Err(error) => Ok(Err(error)),
            }
        })
        .await?
        .map_err(|error| {
            Halted::new(format!(
                "The snapshot cannot be made: {error}. The node is halted; nothing is lost."
            ))
        })?;
    stdio::log(
        Level::Info,
        &format!("The snapshot is complete on the server: {sent} bytes sent"),
    );
    Ok(())
}

/// The policy record of this timeline, as it stands in the log: the manifest carries it, so that it outlives the log.
async fn policy_record(writer: &Writer) -> Result<Option<Vec<u8>>, Halted> {
    let session = &writer.session;
    let page = writer
        .patience
        .until_done("snapshot of the database", &writer.node.network_dir, async || {
            session.records(1).await
        })
        .await?;
    let is_policy =
        |sealed: &[u8]| RecordHeader::parse(sealed).is_ok_and(|header| header.kind == RecordKind::Policy);
    Ok(page
        .into_iter()
        .map(|(_, sealed)| sealed)
        .find(|sealed| is_policy(sealed))
        .map(|sealed| sealed.to_vec()))
}
