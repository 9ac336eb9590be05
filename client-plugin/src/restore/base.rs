//! The snapshot from which a restore starts.

use super::{Until, error::RestoreError, server::BackupServer};
use crate::{keys::ManifestKey, snapshot::Manifest};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    record::RecordHeader,
};

/// A complete snapshot on the chain.
pub(crate) struct Base {
    /// As the server lists it.
    pub(crate) info: SnapshotInfo,
    /// As the node wrote it.
    pub(crate) manifest: Manifest,
}

/// The snapshot that stands highest on the chain, of those of equal height the newest; `None` where the log still has
/// its first record and no snapshot is on the chain. One that is newer than `until` does not count.
pub(crate) async fn choose(
    server: &impl BackupServer,
    key: &ManifestKey,
    account: &AccountState,
    until: Option<Until>,
) -> Result<Option<Base>, RestoreError> {
    let mut known = server.snapshots().await?;
    let last = match until {
        Some(Until::Record(seq)) => seq.min(account.head.seq),
        _ => account.head.seq,
    };
    known.retain(|info| info.base_seq <= last);
    // The list is newest first, and sorting keeps that order among equals.
    known.sort_by_key(|info| std::cmp::Reverse(info.base_seq));
    for info in known {
        if !is_on_chain(server, account, &info).await? {
            continue;
        }
        let sealed = server.manifest(info.snapshot).await?;
        let manifest = Manifest::open(key, &sealed).map_err(|error| RestoreError::Manifest {
            snapshot: info.snapshot,
            error,
        })?;
        let base = manifest.base;
        if (manifest.snapshot, base.seq, base.hash) != (info.snapshot, info.base_seq, info.base_hash) {
            return Err(RestoreError::Foreign(info.snapshot));
        }
        let too_new = matches!(until, Some(Until::Version(version)) if manifest.data_version > version);
        if Some(base.timeline) == account.timeline && !too_new {
            return Ok(Some(Base { info, manifest }));
        }
    }
    match account.first_seq {
        1 => Ok(None),
        first_seq => Err(RestoreError::NoBase { first_seq }),
    }
}

/// Whether the record after the base names it, or the head is it. A snapshot of a record that was replaced (I3) is not.
async fn is_on_chain(
    server: &impl BackupServer,
    account: &AccountState,
    info: &SnapshotInfo,
) -> Result<bool, RestoreError> {
    if info.base_seq == account.head.seq {
        return Ok(info.base_hash == account.head.hash);
    }
    let page = server.records(info.base_seq.saturating_add(1)).await?;
    let header = page
        .first()
        .and_then(|(_, sealed)| RecordHeader::parse(sealed).ok());
    Ok(header.is_some_and(|header| header.prev == info.base_hash))
}
