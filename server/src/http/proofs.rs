//! What the client found when it compared the backup with its database.

use super::{App, Json, session::AppendCall};
use crate::{
    error::ApiError,
    webhooks::{Event, Kind},
};
use axum::extract::State;
use backstop_protocol::{
    api::{AccountState, ProofReport},
    clock::UnixMillis,
};
use std::sync::Arc;

pub(super) async fn report(
    State(app): State<Arc<App>>,
    call: AppendCall,
) -> Result<Json<AccountState>, ApiError> {
    let report: ProofReport = serde_json::from_slice(&call.body).map_err(ApiError::malformed)?;
    let (now, equal) = (app.clock.now(), report.equal);
    let state = app
        .store
        .report_proof(call.account, call.writer, report, now)
        .await?;
    app.metrics.proved(equal);
    if !equal {
        app.webhooks.tell(failed(&state, now));
    }
    Ok(Json(state))
}

fn failed(state: &AccountState, at: UnixMillis) -> Event {
    Event {
        kind: Kind::ProofFailed,
        node: state.node,
        network: state.network,
        at,
        text: "The node found its backup to differ from its database. What is here is held, nothing of it is dropped; the node \
               makes a new snapshot by itself. Ask its owner to report this and to run `backstop accept`."
            .to_owned(),
    }
}

pub(super) async fn accept(
    State(app): State<Arc<App>>,
    call: AppendCall,
) -> Result<Json<AccountState>, ApiError> {
    let now = app.clock.now();
    let state = app.store.accept_proof(call.account, call.writer, now).await?;
    // What was held may go now.
    app.housekeeping.look_at(call.account);
    Ok(Json(state))
}
