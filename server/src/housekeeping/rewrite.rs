//! Packs into which what is still needed of others is gathered. The server sees ranges of bytes, no more.

use super::HousekeepingError;
use crate::{
    packs::PackStore,
    store::{AccountId, ChunkEntry, Move, PackArrival, Store},
};
use backstop_protocol::{
    clock::UnixMillis,
    hash::sha256,
    id::{ChunkId, PackId},
    pack::{PackBuilder, parse_pack},
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};

/// Gathers what the index still names of some packs in a new one. The order is the same as for a pack that arrives: known,
/// then stored, then named; so a server that dies anywhere in between has lost nothing, and what it leaves has a row.
pub(super) async fn merge(
    store: &dyn Store,
    packs: &dyn PackStore,
    account: AccountId,
    from: &[PackId],
    now: UnixMillis,
) -> Result<(), HousekeepingError> {
    // By id, as everything that the server writes down: the order tells nothing, and the same chunks make the same pack.
    let mut live = BTreeMap::new();
    for pack in from {
        for (id, sealed) in live_chunks(store, packs, account, *pack).await? {
            live.insert(id, sealed);
        }
    }
    if live.is_empty() {
        return Ok(());
    }
    let (to, bytes, chunks) = gather(live)?;
    let arrival = PackArrival {
        account,
        pack: to,
        bytes: bytes.len() as u64,
        judged: false,
        now,
    };
    store.register_pack(arrival).await?;
    packs.put(account, to, bytes).await?;
    store
        .move_chunks(Move {
            account,
            from: from.to_vec(),
            to,
            chunks,
            now,
        })
        .await?;
    Ok(())
}

/// The sealed chunks that the index still names of a pack. The pack is read whole, so that its name proves it: a copy of
/// what a disk has damaged would look sound.
async fn live_chunks(
    store: &dyn Store,
    packs: &dyn PackStore,
    account: AccountId,
    pack: PackId,
) -> Result<Vec<(ChunkId, Bytes)>, HousekeepingError> {
    let named: HashSet<_> = store.chunks_in(account, pack).await?.into_iter().collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let damaged = |why: &str| HousekeepingError::Damaged(pack, why.to_owned());
    let bytes = packs.get(account, pack, None).await?;
    let bytes = bytes.ok_or_else(|| damaged("it is not there"))?;
    let entries = tokio::task::spawn_blocking(move || {
        if sha256(&bytes) != pack.0 {
            return Err("its SHA-256 is not its name".to_owned());
        }
        let entries = parse_pack(&bytes).map_err(|error| error.to_string())?;
        let live = entries.iter().filter(|entry| named.contains(&entry.id));
        let live: Vec<_> = live
            .map(|entry| (entry.id, bytes.slice_ref(entry.sealed)))
            .collect();
        if live.len() == named.len() {
            Ok(live)
        } else {
            Err("the index names chunks that it does not hold".to_owned())
        }
    });
    match entries.await {
        Ok(entries) => entries.map_err(|why| damaged(&why)),
        Err(broken) => Err(damaged(&broken.to_string())),
    }
}

/// One pack of all of them, and where each lies in it.
fn gather(live: BTreeMap<ChunkId, Bytes>) -> Result<(PackId, Bytes, Vec<ChunkEntry>), HousekeepingError> {
    let mut builder = PackBuilder::default();
    for (id, sealed) in live {
        builder.push(id, &sealed);
    }
    let (pack, bytes) = builder.finish();
    let fault = |why: String| HousekeepingError::Damaged(pack, why);
    let entries = parse_pack(&bytes).map_err(|error| fault(error.to_string()))?;
    let mut chunks = Vec::with_capacity(entries.len());
    for entry in entries {
        chunks.push(ChunkEntry {
            id: entry.id,
            offset: entry.offset,
            len: u32::try_from(entry.sealed.len()).map_err(|error| fault(error.to_string()))?,
        });
    }
    Ok((pack, bytes.into(), chunks))
}
