//! The MAC on answers (SPEC 4.4), in one place: whoever knows under which key the answer belongs fills the request's
//! [`Seal`], and whatever the answer becomes after that, success or refusal, leaves with a MAC.

use super::body;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue},
    response::{IntoResponse as _, Response},
};
use backstop_protocol::{api::MAC_HEADER, session::SessionKey};
use std::sync::{Arc, OnceLock};

use crate::error::ApiError;

/// Under which key, and for which request, the answer's MAC is made. Empty where there is no session.
#[derive(Clone, Default)]
pub(super) struct Seal(Arc<OnceLock<(Arc<SessionKey>, [u8; 32])>>);

impl Seal {
    /// Says it; once for each request.
    pub(super) fn set(&self, key: Arc<SessionKey>, request_mac: [u8; 32]) {
        // A second time does not happen, and would change nothing.
        let _ = self.0.set((key, request_mac));
    }
}

/// Has a request answered, and puts the MAC on the answer.
pub(super) async fn sealed(
    mut request: Request,
    answered: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    let seal = Seal::default();
    request.extensions_mut().insert(seal.clone());
    let answer = answered(request).await;
    let Some((key, request_mac)) = seal.0.get() else {
        return answer;
    };
    let (mut parts, body) = answer.into_parts();
    // Answers are whole before they leave, so that none ends in the middle without anybody noticing.
    let body = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => return ApiError::Internal(Box::new(error)).into_response(),
    };
    let mac = key.answer_mac(request_mac, parts.status.as_u16(), &body::hash(&body).await);
    if let Ok(mac) = HeaderValue::from_str(&hex::encode(mac)) {
        parts.headers.insert(HeaderName::from_static(MAC_HEADER), mac);
    }
    Response::from_parts(parts, Body::from(body))
}
