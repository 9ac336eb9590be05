//! One line for each request, at debug level: its number, client, method, path template, status and time; and the counts
//! of the same. Paths name keys and packs, headers hold tokens: neither is logged.

use super::App;
use crate::transport::Client;
use axum::{
    body::HttpBody as _,
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use backstop_protocol::problem::ProblemCode;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::time::Instant;
use tracing::Instrument as _;

/// Numbers requests since the start, so that the lines of one can be told from another's.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Where a request came from, as far as anybody knows.
#[derive(Clone, Copy)]
pub(super) struct From(pub(super) IpAddr);

/// The layer of pages.
pub(super) async fn pages(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    traced(&app, request, async |request| next.run(request).await).await
}

/// Has a request answered, and tells of it.
pub(super) async fn traced(
    app: &App,
    mut request: Request,
    answered: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let path = matched.as_ref().map_or("none", MatchedPath::as_str);
    // Without a connection, in a test of the router alone, nobody calls.
    let peer = request.extensions().get::<Client>().copied();
    let client = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
        app.proxies.client(peer, request.headers())
    });
    request.extensions_mut().insert(From(client));
    let span = tracing::info_span!("request", number, %client, method = %request.method(), path);
    let method = known(request.method());
    let began = Instant::now();
    async {
        let answer = answered(request).await;
        let status = answer.status().as_u16();
        if let Some(code) = answer.extensions().get::<ProblemCode>() {
            app.metrics.refused(*code);
        }
        let path = matched.as_ref().map_or("none", MatchedPath::as_str);
        let bytes = answer.body().size_hint().lower();
        app.metrics.answered(method, path, status, bytes);
        tracing::debug!(status, micros = began.elapsed().as_micros(), "answered");
        answer
    }
    .instrument(span)
    .await
}

/// The method, as one of few: a client may make up others.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
