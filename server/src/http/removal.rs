//! The owner's own word on the removal of a backup (SPEC 4.5).

use super::{App, Json, session::ReadCall};
use crate::error::ApiError;
use axum::extract::State;
use backstop_protocol::{api::AccountState, removal::SignedRemoval};
use std::sync::Arc;

/// Whoever has the node's key may ask; an access key alone may not, so that who stole one deletes nothing.
pub(super) async fn ask(State(app): State<Arc<App>>, call: ReadCall) -> Result<Json<AccountState>, ApiError> {
    let signed: SignedRemoval = serde_json::from_slice(&call.body).map_err(ApiError::malformed)?;
    let word = signed.verify()?;
    if word.server != app.sessions.server_key() {
        return Err(ApiError::RemovalInvalid(
            "the removal is meant for another server".to_owned(),
        ));
    }
    let now = app.clock.now();
    let state = app.store.hear_owner(call.account, word, now).await?;
    // The operator hears of it soon.
    app.housekeeping.look_at(call.account);
    Ok(Json(state))
}
