//! The calls of SPEC 7, and the layers around them.
//!
//! From the outside in: [`trace`] names and times every request; [`seal`] puts the MAC on every answer of a session;
//! panics become refusals; [`session`] recognises the session, reads the body and checks the request's MAC. What
//! reaches a handler of a session call is whole, authentic and within its limit.

mod arrivals;
pub(crate) mod body;
mod calls;
mod chunks;
mod files;
mod grants;
mod known;
mod openapi;
mod packs;
mod params;
mod proofs;
mod receipts;
mod records;
mod removal;
mod seal;
mod server;
mod session;
mod sessions;
mod snapshots;
#[cfg(test)]
mod tests;
mod trace;

use crate::{
    error::ApiError,
    housekeeping::Housekeeping,
    metrics::Metrics,
    packs::PackStore,
    rates::Limiter,
    sessions::Sessions,
    store::{Store, Terms},
    transport::Proxies,
    web::{self, Passes},
    webhooks::Webhooks,
};
pub(crate) use arrivals::Arrivals;
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use backstop_protocol::{api::OCTETS, clock::Clock};
use bytes::Bytes;
use futures_util::FutureExt as _;
pub(crate) use known::KnownKeys;
use serde::Serialize;
pub(crate) use session::from;
use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::sync::watch;

/// What every handler works with.
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) packs: Arc<dyn PackStore>,
    pub(crate) housekeeping: Housekeeping,
    pub(crate) sessions: Sessions,
    /// Of those who look at pages.
    pub(crate) passes: Passes,
    pub(crate) terms: Terms,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) proxies: Proxies,
    pub(crate) body_grace: Duration,
    pub(crate) limiter: Limiter,
    /// Whose openings do not stand in the line of strangers.
    pub(crate) known: KnownKeys,
    pub(crate) webhooks: Webhooks,
    pub(crate) arrivals: Arrivals,
    /// Once true, nobody waits any more.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The whole of the API, and the pages of nodes' owners where there are any.
pub(crate) fn router(app: &Arc<App>, pages: bool) -> Router {
    let mut routes = Router::new();
    for call in calls::calls() {
        routes = routes.route(&call.path, call.handler);
    }
    routes
        .fallback(async || ApiError::NoSuchPath)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(from_fn_with_state(app.clone(), layers))
        .with_state(app.clone())
        .merge(if pages {
            web::of_owners(app).layer(from_fn_with_state(app.clone(), trace::pages))
        } else {
            Router::new()
        })
}

/// All layers as one: between layers of axum each request is boxed and each service copied.
async fn layers(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let handled = async |request| match session::recognised(&app, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let caught = async |request| {
        let answer = AssertUnwindSafe(handled(request)).catch_unwind().await;
        answer.unwrap_or_else(|cause| panicked(&*cause).into_response())
    };
    trace::traced(&app, request, async |request| seal::sealed(request, caught).await).await
}

/// What a panic is to whoever asked.
pub(crate) fn panicked(cause: &(dyn Any + Send)) -> ApiError {
    let what = match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    };
    ApiError::Internal(format!("a handler panicked: {what}").into())
}

/// An answer of JSON.
struct Json<T>(T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => ApiError::Internal(Box::new(error)).into_response(),
        }
    }
}

/// An answer of bytes.
struct Octets(Bytes);

impl IntoResponse for Octets {
    fn into_response(self) -> Response {
        (StatusCode::OK, [(header::CONTENT_TYPE, OCTETS)], self.0).into_response()
    }
}
