//! The log: its head, its records, one more.

use super::{
    App, Json, Octets,
    params::Fields,
    session::{AppendCall, ReadCall},
};
use crate::{
    error::ApiError,
    store::{Append, Refusal, StoreError},
};
use axum::extract::State;
use backstop_protocol::{
    api::{AccountState, Appended, RECORD_PAGE, push_frame},
    id::RecordHash,
    record::RecordHeader,
};
use serde::Deserialize;
use std::sync::Arc;
use tokio::time::Instant;

pub(super) async fn head(
    State(app): State<Arc<App>>,
    call: ReadCall,
) -> Result<Json<AccountState>, ApiError> {
    Ok(Json(app.store.account(call.account, app.clock.now()).await?))
}

pub(super) async fn append(
    State(app): State<Arc<App>>,
    call: AppendCall,
) -> Result<Json<Appended>, ApiError> {
    let append = Append {
        account: call.account,
        writer: call.writer,
        header: RecordHeader::parse(&call.body)?,
        // A record's hash is its bytes' SHA-256, and the bytes are the body.
        hash: RecordHash(call.body_hash),
        sealed: call.body,
        now: app.clock.now(),
    };
    let began = Instant::now();
    let (account, writer, now) = (append.account, append.writer, append.now);
    let appended = app.store.append(append).await.inspect_err(|error| {
        if matches!(
            error,
            StoreError::Refused(Refusal::Fenced { .. } | Refusal::NotFound)
        ) {
            app.limiter.fenced(account, &writer, now);
        }
    })?;
    app.metrics.appended(began.elapsed(), appended.roll_up);
    Ok(Json(appended))
}

/// `?from=SEQ`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    from: u64,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    call: ReadCall,
    Fields(From { from }): Fields<From>,
) -> Result<Octets, ApiError> {
    let records = app.store.records(call.account, from, RECORD_PAGE).await?;
    let mut page = Vec::new();
    for record in records {
        push_frame(&mut page, record.received_at, &record.sealed);
    }
    Ok(Octets(page.into()))
}
