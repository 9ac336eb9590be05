//! The node's last word on its servers, as one of them holds it (SPEC 5.4.5).

use super::{RestoreError, server::BackupServer};
use crate::{
    keys::Keys,
    record::{Content, Opener, Policy},
    snapshot::Manifest,
};
use backstop_protocol::{
    api::AccountState,
    record::{RecordHeader, RecordKind},
};
use bytes::Bytes;

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// To what costs next to nothing: the newest snapshot's manifest, else the beginning of the log. A restore proves in the end
    /// that nothing newer was there.
    Quick,
    /// To the head.
    Full,
}

/// The policy of the account; `None` where it has none yet.
pub async fn policy(
    server: &impl BackupServer,
    keys: &Keys,
    account: &AccountState,
    depth: Depth,
) -> Result<Option<Policy>, RestoreError> {
    let Some((seq, sealed)) = sealed(server, keys, account, depth).await? else {
        return Ok(None);
    };
    match Opener::new(&keys.record).open(&sealed) {
        Ok((_, Content::Policy(policy))) => Ok(Some(policy)),
        Ok(_) => Ok(None),
        Err(error) => Err(RestoreError::Record { seq, error }),
    }
}

/// The same as the record stands in the log, or in the newest snapshot's manifest, with the seq at which it was found.
pub async fn sealed(
    server: &impl BackupServer,
    keys: &Keys,
    account: &AccountState,
    depth: Depth,
) -> Result<Option<(u64, Bytes)>, RestoreError> {
    let mut sealed: Option<(u64, Bytes)> = None;
    let mut next = account.first_seq.max(1);
    if let Some(info) = account.snapshot {
        let manifest = server.manifest(info.snapshot).await?;
        let manifest = Manifest::open(&keys.manifest, &manifest).map_err(|error| RestoreError::Manifest {
            snapshot: info.snapshot,
            error,
        })?;
        sealed = manifest.policy.map(|sealed| (info.base_seq, sealed.into()));
        next = info.base_seq + 1;
    }
    while next <= account.head.seq && (depth == Depth::Full || sealed.is_none()) {
        let page = server.records(next).await?;
        if page.is_empty() {
            break;
        }
        for (_, record) in page {
            let is_policy =
                RecordHeader::parse(&record).is_ok_and(|header| header.kind == RecordKind::Policy);
            if is_policy {
                sealed = Some((next, record));
            }
            next += 1;
        }
    }
    Ok(sealed)
}

/// Whether two policies ask for the same: the same servers, and as many of them.
#[must_use]
pub fn same(one: &Policy, other: &Policy) -> bool {
    one.require == other.require
        && one.servers.len() == other.servers.len()
        && one
            .servers
            .iter()
            .all(|server| other.servers.iter().any(|known| known.key == server.key))
}
