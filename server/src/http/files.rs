//! The files beside the database.

use super::{
    App, Octets,
    params::Fields,
    session::{AppendCall, ReadCall},
};
use crate::{error::ApiError, store::PutFiles};
use axum::extract::State;
use backstop_protocol::{clock::UnixMillis, files::FilesHeader};
use serde::Deserialize;
use std::sync::Arc;

pub(super) async fn store(State(app): State<Arc<App>>, call: AppendCall) -> Result<Octets, ApiError> {
    FilesHeader::parse(&call.body)?;
    let files = PutFiles {
        account: call.account,
        writer: call.writer,
        sealed: call.body,
        now: app.clock.now(),
    };
    app.store.put_files(files).await?;
    Ok(Octets(bytes::Bytes::new()))
}

/// `?at=TIME`, or nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    at: Option<u64>,
}

pub(super) async fn fetch(
    State(app): State<Arc<App>>,
    call: ReadCall,
    Fields(At { at }): Fields<At>,
) -> Result<Octets, ApiError> {
    let sealed = app.store.files(call.account, at.map(UnixMillis)).await?;
    sealed
        .map(|sealed| Octets(sealed.into()))
        .ok_or(ApiError::NotFound)
}
