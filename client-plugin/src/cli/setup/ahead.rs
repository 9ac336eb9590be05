//! The database, sent ahead: so the first start with the plugin, which waits for a complete snapshot, is short.
//!
//! lightningd may be running and writing. Pieces of its database are named by their content, so one that was read half
//! written harms nobody: no snapshot will ever name it, and the server forgets it after a day.

use crate::{
    cli::bars::Bars,
    node::{Ambient, Node},
    quorum::{Door as _, ServerDoor},
    remote::RemoteError,
    restore::Patient,
    snapshot::{UploadError, read_ahead},
};
use backstop_protocol::{id::RunId, problem::ProblemCode, session::WriterClaim};
use std::{
    io::{self, Write},
    path::Path,
};

/// Sends what the servers lack of the node's database, where they have no backup of the node yet. Whatever goes wrong is
/// told and costs time at the first start, no more.
pub(super) fn send(network_dir: &Path, ambient: Ambient, out: &mut dyn Write) -> io::Result<()> {
    let Ok(node) = Node::load(network_dir, ambient) else {
        return Ok(());
    };
    if std::fs::metadata(node.database()).is_ok_and(|file| file.len() > 0) && !is_at_work(&node) {
        for door in node.doors() {
            let url = door.server.url.clone();
            match sent(&node, &door) {
                Ok(None) => {}
                Ok(Some(bytes)) => writeln!(
                    out,
                    "\nThe database was sent ahead to {url}, sealed, {bytes} bytes: the first start with Backstop sends \
                     only what changes until then."
                )?,
                Err(error) => writeln!(
                    out,
                    "\nThe database was not sent ahead: {error}. The first start with Backstop sends it and takes longer; \
                     to try again before, run setup again."
                )?,
            }
        }
    }
    out.flush()
}

/// Whether the plugin was ever at work in this directory, or is just beginning. At a server that it has not filled yet a
/// claim of this command would fence it, and halt the node (I13).
fn is_at_work(node: &Node) -> bool {
    !matches!(node.directory.runs(), Ok(None)) || node.directory.lock().is_err()
}

/// `None`: there is a backup already, or the plugin just makes one.
fn sent(node: &Node, door: &ServerDoor) -> Result<Option<u64>, UploadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let work = node.directory.work().map_err(io::Error::other)?;
    let mut bars = Bars::default();
    let sent = runtime.block_on(async {
        let expected_epoch = match door.open(None).await {
            Ok((_, account)) if !account.head.is_empty() => return Ok(None),
            Ok((_, account)) => account.epoch,
            Err(error) if error.code() == Some(ProblemCode::NotFound) => 0,
            Err(error) => return Err(error.into()),
        };
        // A run of its own that writes no record: the plugin's first run takes its place, also while this one sends, and
        // the lock is left to it, so that no start of lightningd ever waits for this.
        let claim = WriterClaim {
            instance: node.instance,
            run: RunId(node.ambient.rng.array()),
            expected_epoch,
            epoch: expected_epoch + 1,
            takeover: false,
        };
        let (session, account) = door.open(Some(claim)).await?;
        if !account.head.is_empty() {
            return Ok(None);
        }
        let server = Patient::new(&session, Patient::<()>::PAUSES);
        let mut progress = |done, total| bars.ahead(done, total);
        let notes = work.join("ahead");
        let bytes = read_ahead(
            &server,
            &node.keys,
            &node.database(),
            &notes,
            &node.ambient.rng,
            &mut progress,
        )
        .await?;
        Ok(Some(bytes))
    });
    bars.clear();
    match sent {
        Err(UploadError::Remote(error)) if is_begun(&error) => Ok(None),
        other => other,
    }
}

/// Whether lightningd was started with the plugin meanwhile, which does the rest.
fn is_begun(error: &RemoteError) -> bool {
    matches!(
        error.code(),
        Some(ProblemCode::Fenced | ProblemCode::EpochMismatch | ProblemCode::OtherInstance)
    )
}
