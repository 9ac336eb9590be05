//! The shadow from what the backup holds: the records that it lacks, or all of it.

use super::{DATABASE, FETCHED, Shadow, ShadowError, clear};
use crate::{
    durable,
    keys::{Keys, RecordKey},
    record::Opener,
    restore::{self, BackupServer, BadChain, Chain},
    snapshot,
};
use backstop_protocol::{api::AccountState, id::TimelineId, record::record_hash};
use std::{path::Path, sync::Arc};

/// Applies the records that the shadow lacks, up to `until`, which the log has reached.
pub async fn catch_up(
    shadow: &mut Shadow,
    server: &impl BackupServer,
    key: &RecordKey,
    until: u64,
) -> Result<(), ShadowError> {
    let first = shadow.position.seq.saturating_add(1);
    if until < first {
        return Ok(());
    }
    let mut page = server.records(first).await?;
    let start = restore::start_of(key, first, &page)?;
    if start < first {
        page = server.records(start).await?;
    }
    let mut chain = Chain::enter(shadow.position.timeline, start, shadow.position.base());
    let mut opener = Opener::new(key);
    loop {
        for (_, sealed) in &page {
            let header = chain.take(sealed)?;
            let (_, content) = opener.open(sealed)?;
            if header.seq > shadow.position.seq {
                shadow.take(header.head(record_hash(sealed)), &content, sealed)?;
            }
            if header.seq >= until {
                return Ok(());
            }
        }
        if page.is_empty() {
            return Err(BadChain::Short {
                reached: shadow.position.seq,
                head: until,
            }
            .into());
        }
        page = server.records(chain.next()).await?;
    }
}

/// Makes the shadow anew: the newest snapshot, or nothing where the log reaches back to the first record. The
/// records since are for [`catch_up`].
pub async fn rebuild(
    dir: &Path,
    server: &impl BackupServer,
    keys: &Arc<Keys>,
    account: &AccountState,
    timeline: TimelineId,
) -> Result<Shadow, ShadowError> {
    let Some(base) = restore::choose_base(server, &keys.manifest, account, None).await? else {
        return Shadow::empty(dir, timeline);
    };
    clear(dir)?;
    let fetched = dir.join(FETCHED);
    durable::need_room(dir, base.manifest.database_len)?;
    snapshot::fetch(server, keys, &base.manifest, &fetched, &mut |_, _| {})
        .await
        .map_err(|error| restore::fetching(&dir.join(DATABASE), error))?;
    Shadow::adopt(dir, &fetched, base.manifest.base, base.manifest.policy)
}
