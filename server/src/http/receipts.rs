//! What the server holds, under its own signature (SPEC 7.6).

use super::{App, Json, session::ReadCall};
use crate::error::ApiError;
use axum::extract::State;
use backstop_protocol::receipt::{RECEIPT_VERSION, Receipt, SignedReceipt};
use std::sync::Arc;

pub(super) async fn sign(
    State(app): State<Arc<App>>,
    call: ReadCall,
) -> Result<Json<SignedReceipt>, ApiError> {
    // What the store answers is durable (I1).
    let account = app.store.account(call.account, app.clock.now()).await?;
    let receipt = Receipt {
        version: RECEIPT_VERSION,
        server: app.sessions.server_key(),
        node: account.node,
        network: account.network,
        timeline: account.timeline,
        head: account.head,
        time: account.time,
    };
    let signed = app.sessions.sign_receipt(receipt);
    signed
        .map(Json)
        .map_err(|error| ApiError::Internal(Box::new(error)))
}
