//! What a writer says of its backup, beside appending to it: what a comparison with the node's database found, and what a person
//! asks for.

use super::{App, Json, session::AppendCall};
use crate::{
    error::ApiError,
    store::{Says, Word},
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
    let state = app.store.hear(call.word(Says::Proved(report), now)).await?;
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
    let state = app.store.hear(call.word(Says::Accepted, now)).await?;
    // What was held may go now.
    app.housekeeping.look_at(call.account);
    Ok(Json(state))
}

pub(super) async fn roll_up(
    State(app): State<Arc<App>>,
    call: AppendCall,
) -> Result<Json<AccountState>, ApiError> {
    let now = app.clock.now();
    Ok(Json(app.store.hear(call.word(Says::RollUp, now)).await?))
}

impl AppendCall {
    fn word(&self, says: Says, now: UnixMillis) -> Word {
        Word {
            account: self.account,
            writer: self.writer,
            says,
            now,
        }
    }
}
