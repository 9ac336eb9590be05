//! What the server is and whether it answers.

use super::{App, Json};
use crate::error::ApiError;
use axum::extract::State;
use backstop_protocol::{
    PROTOCOL_VERSION,
    api::{Health, RECORD_MAX, ServerInfo},
};
use std::sync::Arc;

pub(super) async fn health(State(app): State<Arc<App>>) -> Result<Json<Health>, ApiError> {
    app.store.ping().await?;
    Ok(Json(Health {
        status: "ok".to_owned(),
    }))
}

pub(super) async fn info(State(app): State<Arc<App>>) -> Json<ServerInfo> {
    Json(ServerInfo {
        server: app.sessions.server_key(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: vec![PROTOCOL_VERSION],
        time: app.clock.now(),
        record_max: RECORD_MAX as u64,
    })
}
