//! The packs of an account, each read whole.

use super::{FaultKind, Report, ScrubError, Scrubber, account::Subject};
use crate::{
    packs::PackError,
    store::{ChunkEntry, PackRow},
};
use backstop_protocol::{hash::sha256, id::PackId, pack::parse_pack};
use bytes::Bytes;
use std::collections::HashMap;

/// How many packs are listed at once.
const PAGE: usize = 256;

impl Scrubber {
    /// Every pack that holds chunks, against its name and against the index.
    pub(super) async fn packs(&self, subject: &Subject, report: &mut Report) -> Result<(), ScrubError> {
        let mut after = None;
        loop {
            let page = self.store.packs_above(subject.id, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(*last);
            for pack in page {
                self.pack(subject, pack, report).await?;
            }
        }
    }

    async fn pack(&self, subject: &Subject, pack: PackId, report: &mut Report) -> Result<(), ScrubError> {
        // In this order: chunks that the index names are in the pack store, and stay there for a day after they left.
        let Some(row) = self.store.pack_row(subject.id, pack).await? else {
            return Ok(());
        };
        let bytes = match self.packs.get(subject.id, pack, None).await {
            Err(PackError::Failed(_)) => {
                // A bad sector says so again; a passing trouble does not.
                self.packs.probe().await?;
                match self.packs.get(subject.id, pack, None).await {
                    Err(PackError::Failed(cause)) => Err(cause.to_string()),
                    other => Ok(other?),
                }
            }
            other => Ok(other?),
        };
        let (kind, why) = match bytes {
            Err(why) => (FaultKind::PackDamaged, format!("it cannot be read: {why}")),
            Ok(None) => {
                // A disk that is not mounted has no pack at all, and lost none.
                self.packs.probe().await?;
                let why = format!("it is not there, with {} chunks", row.chunks.len());
                (FaultKind::PackLost, why)
            }
            Ok(Some(bytes)) => {
                let read = bytes.len() as u64;
                report.packs += 1;
                report.pack_bytes += read;
                report.chunks += row.chunks.len() as u64;
                let damaged = row.damaged;
                let judged = tokio::task::spawn_blocking(move || judge(pack, &bytes, &row)).await;
                self.pace(read).await;
                match judged {
                    Ok(Ok(())) => {
                        if damaged
                            && self
                                .store
                                .mark_pack(subject.id, pack, false, self.clock.now())
                                .await?
                        {
                            report.healed += 1;
                        }
                        return Ok(());
                    }
                    Ok(Err(fault)) => fault,
                    Err(broken) => (FaultKind::PackDamaged, broken.to_string()),
                }
            }
        };
        // What was removed, or left by its chunks, since it was listed is no fault.
        if self
            .store
            .mark_pack(subject.id, pack, true, self.clock.now())
            .await?
        {
            report
                .faults
                .push(subject.fault(kind, format!("pack {pack}"), &why));
        }
        Ok(())
    }
}

/// A pack's bytes against its name, and what the index says against what is in it.
fn judge(pack: PackId, bytes: &Bytes, row: &PackRow) -> Result<(), (FaultKind, String)> {
    if sha256(bytes) != pack.0 {
        return Err((FaultKind::PackDamaged, "its SHA-256 is not its name".to_owned()));
    }
    let entries = parse_pack(bytes).map_err(|error| (FaultKind::PackDamaged, error.to_string()))?;
    let there: HashMap<_, _> = entries
        .iter()
        .map(|entry| (entry.id, (entry.offset, entry.sealed.len())))
        .collect();
    let is_there = |chunk: &&ChunkEntry| {
        let place = there.get(&chunk.id);
        place.is_some_and(|(offset, len)| *offset == chunk.offset && u32::try_from(*len) == Ok(chunk.len))
    };
    let astray = row.chunks.len() - row.chunks.iter().filter(is_there).count();
    if astray > 0 {
        let why = format!(
            "{astray} of its {} chunks are not where the index says",
            row.chunks.len()
        );
        return Err((FaultKind::IndexWrong, why));
    }
    if row.bytes != bytes.len() as u64 {
        return Err((FaultKind::IndexWrong, "its row says another length".to_owned()));
    }
    Ok(())
}
