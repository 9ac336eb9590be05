//! What an operator's machines ask, on a listener of its own: `/metrics`, `/health`, `/ready`. It takes nothing in, and
//! names no node unless the operator said how many it may. Beside that, for the operator, the [fleet's page](crate::web).

use crate::{
    gauges::Gauges,
    metrics::{Metrics, OPEN_METRICS},
    store::Store,
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use std::sync::Arc;
use tokio::sync::watch;

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Operations {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) stopping: watch::Receiver<bool>,
}

pub(crate) fn router(operations: Operations) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        // The process answers; that is all it says.
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .with_state(operations)
}

async fn metrics(State(operations): State<Operations>) -> Response {
    operations.gauges.refresh(&*operations.store).await;
    match operations.metrics.text(operations.gauges.registry()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Whether requests shall come here: the store answers, and nobody has told the server to stop.
async fn ready(State(operations): State<Operations>) -> Response {
    if *operations.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match operations.store.ping().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => {
            tracing::warn!(%error, "not ready: the store does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response()
        }
    }
}
