//! Pages for people: a node's owner sees his backup, on the listener of the API; the operator sees the fleet, on the listener of the
//! metrics. They read and change nothing: no handler here calls anything of the store that writes.
//!
//! No script, nothing from elsewhere, no build step: HTML that the server writes, one style sheet, drawings inside the page. What
//! a page shows passes through [`maud`], which escapes every text. All of its paths lie side by side and are named
//! without what stands before them, so that a proxy may put the pages wherever it likes.

mod backup;
mod cookies;
mod failure;
mod fleet;
mod forms;
mod matters;
mod owner;
mod page;
mod passes;
mod plot;
mod visit;

pub(crate) use passes::Passes;
pub use passes::{AdminToken, BadAdminToken};

use crate::http::App;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use failure::Failure;
use std::{any::Any, sync::Arc};
use tower_http::catch_panic::CatchPanicLayer;
use visit::Visit;

/// The pages of nodes' owners.
pub(crate) fn of_owners(app: &Arc<App>) -> Router {
    let routes = Router::new()
        .route("/", get(owner::home))
        // Whoever loads such an address again comes back to the beginning.
        .route("/login", post(owner::begin).get(owner::to_home))
        .route("/proof", post(owner::prove).get(owner::to_home))
        .route("/backup", get(backup::show))
        .route("/logout", post(owner::leave).get(owner::to_home))
        .layer(from_fn_with_state(app.clone(), rate));
    finish(routes, app)
}

/// The pages of the operator, where the configuration has a token for them.
pub(crate) fn of_operator(app: &Arc<App>) -> Router {
    if app.passes.admin().is_none() {
        return Router::new();
    }
    let routes = Router::new()
        .route("/", get(fleet::to_login))
        .route("/fleet", get(fleet::show))
        .route("/fleet-login", post(fleet::prove).get(fleet::to_login))
        .route("/fleet-logout", post(fleet::leave).get(fleet::to_login));
    finish(routes, app)
}

/// What all pages have in common.
fn finish(routes: Router<Arc<App>>, app: &Arc<App>) -> Router {
    routes
        .route(page::STYLE_PATH, get(page::style))
        .route(page::ICON_PATH, get(page::icon))
        .method_not_allowed_fallback(async || Failure::Method)
        .layer(from_fn(visit::from_here))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::map_response(page::guard))
        .with_state(app.clone())
}

/// Whoever has a pass shares the limit of that node's sessions, and nobody else's.
async fn rate(State(app): State<Arc<App>>, visit: Visit, request: Request, next: Next) -> Response {
    let now = app.clock.now();
    let asked = match visit.owner(&app) {
        Some(account) => app.limiter.call(account, now),
        None => app
            .limiter
            .anonymous(crate::http::from(request.extensions()), now),
    };
    match asked {
        Ok(()) => next.run(request).await,
        Err(wait) => Failure::Crowded(wait).into_response(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(cause: Box<dyn Any + Send>) -> Response {
    Failure::Failed(crate::http::panicked(&*cause)).into_response()
}
