//! Where chunks lie.

use super::{App, Octets, session::ReadCall};
use crate::error::ApiError;
use axum::extract::State;
use backstop_protocol::{
    api::LOCATE_MAX,
    chunk::{encode_places, parse_ids},
};
use std::sync::Arc;

/// How many chunks are looked up at once: their rows are taken apart in one go, and all other requests wait meanwhile.
const PIECE: usize = 512;

pub(super) async fn locate(State(app): State<Arc<App>>, call: ReadCall) -> Result<Octets, ApiError> {
    let ids = parse_ids(&call.body, LOCATE_MAX)?;
    let mut places = Vec::with_capacity(ids.len());
    for piece in ids.chunks(PIECE) {
        places.extend(app.store.locate(call.account, piece.to_vec()).await?);
    }
    // Who makes snapshots sends again what lies in a damaged pack. Whoever restores may still find it whole, and checks it.
    if call.uploads {
        let damaged = app.store.damaged_packs(call.account).await?;
        for place in &mut places {
            place.take_if(|place| damaged.contains(&place.pack));
        }
    }
    Ok(Octets(encode_places(&places).into()))
}
