//! Where chunks lie.

use super::{App, Octets, session::ReadCall};
use crate::error::ApiError;
use axum::extract::State;
use backstop_protocol::{
    api::LOCATE_MAX,
    chunk::{encode_places, parse_ids},
};
use std::sync::Arc;

pub(super) async fn locate(State(app): State<Arc<App>>, call: ReadCall) -> Result<Octets, ApiError> {
    let ids = parse_ids(&call.body, LOCATE_MAX)?;
    let places = app.store.locate(call.account, ids).await?;
    Ok(Octets(encode_places(&places).into()))
}
