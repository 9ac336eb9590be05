//! Bodies, read within a limit and a time.

use crate::{config::BODY_RATE, error::ApiError};
use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, header},
};
use backstop_protocol::hash::{sha256, sha256_in_turns};
use bytes::{Bytes, BytesMut};
use std::{future::poll_fn, pin::Pin, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};

/// Longer bodies are hashed beside the requests.
const HASHED_AT_ONCE: usize = 256 << 10;

/// After so many bytes of one body all other requests have their turn, however fast it comes.
const TURN: u64 = 256 << 10;

/// Reads a body of at most `limit` bytes. One that announces more is refused before anything of it is read.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    grace: Duration,
) -> Result<Bytes, ApiError> {
    let announced = announced(headers);
    if announced.is_some_and(|len| len > limit) {
        return Err(ApiError::TooLarge(limit));
    }
    // What is announced need not come: room is made for a page at first.
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(0).min(64 << 10));
    arrive(body, limit, grace, |part| whole.extend_from_slice(part)).await?;
    Ok(whole.freeze())
}

/// Lets a body of at most `limit` bytes arrive and forgets it, so that a client that is still sending hears the
/// refusal instead of a broken connection.
pub(super) async fn discard(headers: &HeaderMap, body: Body, limit: usize, grace: Duration) {
    if announced(headers).is_none_or(|len| len <= limit) {
        // Whatever is wrong with the body: the refusal is another one.
        let _ = arrive(body, limit, grace, |_| ()).await;
    }
}

/// SHA-256 of a body.
pub(super) async fn hash(body: &Bytes) -> [u8; 32] {
    if body.len() <= HASHED_AT_ONCE {
        return sha256(body);
    }
    let shared = body.clone();
    match tokio::task::spawn_blocking(move || sha256_in_turns(&shared)).await {
        Ok(hash) => hash,
        // The runtime is stopping.
        Err(_) => sha256(body),
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn arrive(
    mut body: Body,
    limit: usize,
    grace: Duration,
    mut take: impl FnMut(&[u8]),
) -> Result<(), ApiError> {
    let start = Instant::now();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut arrived = 0_u64;
    loop {
        let earned = Duration::from_millis(arrived.saturating_mul(1000) / BODY_RATE);
        let frame = timeout_at(
            start + grace + earned,
            poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)),
        );
        match frame.await.map_err(|_| ApiError::Timeout)? {
            None => return Ok(()),
            Some(Err(_)) => return Err(ApiError::malformed("the body ended early")),
            Some(Ok(frame)) => {
                let Ok(part) = frame.into_data() else {
                    continue; // Trailers mean nothing here.
                };
                let before = arrived;
                arrived = arrived.saturating_add(part.len() as u64);
                if arrived > most {
                    return Err(ApiError::TooLarge(limit));
                }
                take(&part);
                if arrived / TURN > before / TURN {
                    yield_now().await;
                }
            }
        }
    }
}
