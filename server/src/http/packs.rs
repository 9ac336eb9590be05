//! Packs, in and out.

use super::{
    App, Octets,
    params::{Fields, Id},
    session::{AppendCall, ReadCall},
};
use crate::{
    error::ApiError,
    packs::PackRange,
    store::{ChunkEntry, PackArrival, PackIndex},
};
use axum::extract::State;
use backstop_protocol::{bytes::Malformed, id::PackId, pack::parse_pack};
use serde::Deserialize;
use std::sync::Arc;

pub(super) async fn store(
    State(app): State<Arc<App>>,
    call: AppendCall,
    Id(pack): Id<PackId>,
) -> Result<Octets, ApiError> {
    if call.body_hash != pack.0 {
        return Err(ApiError::HashMismatch);
    }
    let mut chunks = Vec::new();
    for entry in parse_pack(&call.body)? {
        let len = u32::try_from(entry.sealed.len()).map_err(|_| Malformed::Field("chunk length"))?;
        chunks.push(ChunkEntry {
            id: entry.id,
            offset: entry.offset,
            len,
        });
    }
    let arrival = PackArrival {
        account: call.account,
        pack,
        bytes: call.body.len() as u64,
        judged: true,
        now: app.clock.now(),
    };
    let index = PackIndex {
        account: call.account,
        pack,
        chunks,
        now: arrival.now,
    };
    // In this order: what is stored is known, so that nobody removes it now and a crash leaves nothing unknown; and
    // what the index names must be there (I1).
    app.store.register_pack(arrival).await?;
    app.packs.put(call.account, pack, call.body).await?;
    app.store.index_pack(index).await?;
    Ok(Octets(bytes::Bytes::new()))
}

/// `?offset=&length=`, both or neither.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    offset: Option<u32>,
    length: Option<u32>,
}

pub(super) async fn fetch(
    State(app): State<Arc<App>>,
    call: ReadCall,
    Id(pack): Id<PackId>,
    Fields(part): Fields<Part>,
) -> Result<Octets, ApiError> {
    let range = match (part.offset, part.length) {
        (None, None) => None,
        (Some(offset), Some(length)) if length > 0 => Some(PackRange { offset, length }),
        _ => {
            return Err(ApiError::malformed(
                "offset and length go together, and length is not 0",
            ));
        }
    };
    let bytes = app.packs.get(call.account, pack, range).await?;
    bytes.map(Octets).ok_or(ApiError::NotFound)
}
