//! An account's grants, and their end (SPEC 4.6).

use super::{App, Json, session::ReadCall};
use crate::error::ApiError;
use axum::extract::State;
use backstop_protocol::{api::AccountGrants, revocation::SignedRevocation};
use std::sync::Arc;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    call: ReadCall,
) -> Result<Json<AccountGrants>, ApiError> {
    Ok(Json(app.store.account_grants(call.account).await?))
}

/// Whoever brings it: the node's own signature is what counts.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    call: ReadCall,
) -> Result<Json<AccountGrants>, ApiError> {
    let signed: SignedRevocation = serde_json::from_slice(&call.body).map_err(ApiError::malformed)?;
    let revocation = signed.verify()?;
    let account = app.store.account(call.account, app.clock.now()).await?;
    if (revocation.node, revocation.network) != (account.node, account.network) {
        return Err(ApiError::GrantInvalid(
            "the revocation speaks of another node or network than the session".to_owned(),
        ));
    }
    app.store
        .raise_grant_floor(call.account, revocation.floor)
        .await?;
    Ok(Json(app.store.account_grants(call.account).await?))
}
