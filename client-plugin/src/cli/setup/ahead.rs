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
use anyhow::ensure;
use backstop_protocol::{id::RunId, problem::ProblemCode, quota::Quota, session::WriterClaim};
use std::{
    io::{self, Write},
    path::Path,
};

/// Sends what the servers lack of the node's database, where they have no backup of the node yet. Whatever else goes wrong is told and
/// costs time at the first start, no more; a server without room for it would halt the node there.
pub(super) fn send(network_dir: &Path, ambient: Ambient, out: &mut dyn Write) -> anyhow::Result<()> {
    let Ok(node) = Node::load(network_dir, ambient) else {
        return Ok(());
    };
    let mut full = Vec::new();
    if std::fs::metadata(node.database()).is_ok_and(|file| file.len() > 0) && !is_at_work(&node) {
        for door in node.doors() {
            let url = door.server.url.clone();
            match sent(&node, &door, out) {
                Ok(None) => {}
                Ok(Some(bytes)) => writeln!(
                    out,
                    "\nThe database was sent ahead to {url}, sealed, {bytes} bytes: the first start with Backstop sends \
                     only what changes until then."
                )?,
                Err(UploadError::Remote(error)) if error.code() == Some(ProblemCode::QuotaExceeded) => {
                    full.push(error.to_string());
                }
                Err(error) => writeln!(
                    out,
                    "\nThe database was not sent ahead: {error}. The first start with Backstop sends it and takes longer; \
                     to try again before, run setup again."
                )?,
            }
        }
    }
    out.flush()?;
    ensure!(
        full.is_empty(),
        "this node's database has no room there: {}. All else is set up, but do not start lightningd with the plugin yet: it would wait, \
         then halt. {MORE_ROOM}, then run setup again",
        full.join("; ")
    );
    Ok(())
}

/// Whether the plugin was ever at work in this directory, or is just beginning. At a server that it has not filled yet a
/// claim of this command would fence it, and halt the node (I13).
fn is_at_work(node: &Node) -> bool {
    !matches!(node.directory.runs(), Ok(None)) || node.directory.lock().is_err()
}

/// `None`: there is a backup already, or the plugin just makes one.
fn sent(node: &Node, door: &ServerDoor, out: &mut dyn Write) -> Result<Option<u64>, UploadError> {
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
        if let Some(quota) = &account.quota {
            let needed = std::fs::metadata(node.database())?.len();
            tell_room(out, &door.server.url, needed, quota)?;
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

/// What to do where a server's room does not suffice.
const MORE_ROOM: &str = "Ask the server's operator for more (there: backstop-server node quota NODE SIZE)";

/// Says what the node needs and what the server gives, where the one may be more than the other. Pieces are compressed and those that
/// are equal are sent once: it may still fit, and is tried.
fn tell_room(out: &mut dyn Write, url: &str, needed: u64, quota: &Quota) -> io::Result<()> {
    let given = quota.packs.saturating_sub(quota.used);
    if needed <= given {
        return Ok(());
    }
    writeln!(
        out,
        "\nRoom    this node's database has {needed} bytes, and {url} has room for {given} bytes of it. Compressed it may fit, which is \
         tried now. A node grows: {MORE_ROOM}."
    )?;
    out.flush()
}

/// Whether lightningd was started with the plugin meanwhile, which does the rest.
fn is_begun(error: &RemoteError) -> bool {
    matches!(
        error.code(),
        Some(ProblemCode::Fenced | ProblemCode::EpochMismatch | ProblemCode::OtherInstance)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::quota::QuotaLevel;

    #[test]
    fn a_database_that_may_not_fit_is_told_with_both_numbers_and_the_next_step() {
        let quota = Quota {
            bytes: 1000,
            used: 100,
            packs: 1100,
            most: 1200,
            level: QuotaLevel::Within,
        };
        let said = |needed| {
            let mut out = Vec::new();
            tell_room(&mut out, "http://s", needed, &quota).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(1000), "");
        let said = said(1001);
        for words in [
            "1001 bytes",
            "http://s has room for 1000 bytes",
            "node quota NODE SIZE",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
