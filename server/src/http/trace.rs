//! One line for each request, at debug level: its number, method, path template, status and time. Paths name keys and packs,
//! headers hold tokens: neither is logged.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;
use tracing::Instrument as _;

/// Numbers requests since the start, so that the lines of one can be told from another's.
static NUMBER: AtomicU64 = AtomicU64::new(1);

pub(super) async fn requests(request: Request, next: Next) -> Response {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!("request", number, method = %request.method(), path);
    let began = Instant::now();
    async move {
        let answer = next.run(request).await;
        tracing::debug!(
            status = answer.status().as_u16(),
            micros = began.elapsed().as_micros(),
            "answered"
        );
        answer
    }
    .instrument(span)
    .await
}
