//! The log: its head, its records, one more.

use super::{
    App, Json, Octets,
    arrivals::LOOK_AGAIN,
    params::Fields,
    session::{AppendCall, ReadCall},
};
use crate::{
    error::ApiError,
    store::{AccountId, Append, Refusal, StoreError, StoredRecord},
};
use axum::extract::State;
use backstop_protocol::{
    api::{AccountState, Appended, RECORD_PAGE, WAIT_MAX_MS, push_frame},
    id::RecordHash,
    record::RecordHeader,
};
use serde::Deserialize;
use std::{pin::pin, sync::Arc, time::Duration};
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
    app.arrivals.came(call.account);
    Ok(Json(appended))
}

/// `?from=SEQ&wait=MS`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    from: u64,
    #[serde(default)]
    wait: u64,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    call: ReadCall,
    Fields(From { from, wait }): Fields<From>,
) -> Result<Octets, ApiError> {
    // Not beyond the session: a revocation bites here too.
    let wait = wait
        .min(WAIT_MAX_MS)
        .min(call.expires_at.millis_since(app.clock.now()));
    let records = await_records(&app, call.account, from, Duration::from_millis(wait)).await?;
    let mut page = Vec::new();
    for record in records {
        push_frame(&mut page, record.received_at, &record.sealed);
    }
    Ok(Octets(page.into()))
}

/// The page from `from` on, as soon as there is a record on it; empty once `wait` is over or the server stops.
async fn await_records(
    app: &App,
    account: AccountId,
    from: u64,
    wait: Duration,
) -> Result<Vec<StoredRecord>, ApiError> {
    let deadline = Instant::now() + wait;
    let waiter = app.arrivals.wait_for(account);
    let mut stopping = app.stopping.clone();
    loop {
        let mut arrival = pin!(waiter.arrival());
        arrival.as_mut().enable();
        let records = app.store.records(account, from, RECORD_PAGE).await?;
        let now = Instant::now();
        if !records.is_empty() || now >= deadline || *stopping.borrow() {
            return Ok(records);
        }
        tokio::select! {
            () = arrival => {}
            () = tokio::time::sleep_until(deadline.min(now + LOOK_AGAIN)) => {}
            // An error means that the server is gone.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
}
