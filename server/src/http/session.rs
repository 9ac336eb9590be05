//! Who asks: the token is recognised before the body is read, the body before the MAC is checked, and the MAC before
//! anything is done (SPEC 4.4).

use super::{App, body, known::Crowded, seal::Seal, trace::From};
use crate::{
    error::ApiError,
    sessions::Session,
    store::{AccountId, Writer},
};
use axum::{
    body::Body,
    extract::{FromRequestParts, Request},
    http::{Extensions, HeaderMap, Method, header, request::Parts},
};
use backstop_protocol::{
    api::{self, AUTH_SCHEME},
    clock::UnixMillis,
    hash::same,
    id::ChunkId,
};
use bytes::Bytes;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// A request of a session whose MAC fits; from here on its body is in [`ReadCall`] or [`AppendCall`].
#[derive(Clone)]
struct Authentic {
    session: Session,
    body: Bytes,
    body_hash: [u8; 32],
}

/// A call of any session.
pub(super) struct ReadCall {
    pub(super) account: AccountId,
    /// Whether it is the call of a run that makes snapshots: a writer that did not take over.
    pub(super) uploads: bool,
    pub(super) body: Bytes,
    /// When the session ends, by the server's clock.
    pub(super) expires_at: UnixMillis,
}

/// A call of a session that may append.
pub(super) struct AppendCall {
    pub(super) account: AccountId,
    pub(super) writer: Writer,
    pub(super) body: Bytes,
    /// SHA-256 of the body.
    pub(super) body_hash: [u8; 32],
}

/// Finds out who asks. A request without credentials passes, if its address does not ask too often: a call that needs a
/// session refuses it by asking for one.
pub(super) async fn recognised(app: &App, request: Request) -> Result<Request, ApiError> {
    // An opening carries its own signature.
    if !request.headers().contains_key(header::AUTHORIZATION) || request.uri().path() == api::SESSIONS {
        anonymous(app, request).await
    } else {
        authenticate(app, request).await
    }
}

async fn anonymous(app: &App, request: Request) -> Result<Request, ApiError> {
    let allowed = app.limiter.anonymous(from(request.extensions()), app.clock.now());
    let Err(wait) = allowed else {
        return Ok(request);
    };
    let (mut parts, body) = request.into_parts();
    if (&parts.method, parts.uri.path()) == (&Method::POST, api::SESSIONS) {
        // Whose it is, its signature says.
        parts.extensions.insert(Crowded(wait));
        return Ok(Request::from_parts(parts, body));
    }
    body::discard(&parts.headers, body, api::JSON_MAX, app.body_grace).await;
    Err(ApiError::TooManyRequests(wait))
}

/// Where a request came from.
pub(crate) fn from(extensions: &Extensions) -> IpAddr {
    let known = extensions.get::<From>();
    known.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |from| from.0)
}

/// Appends of the writer are never counted; only runs that were found to be none any more have to wait with theirs.
fn check_rate(app: &App, method: &Method, path: &str, session: &Session) -> Result<(), ApiError> {
    let now = app.clock.now();
    match &session.writer {
        Some(writer) if (method, path) == (&Method::POST, api::RECORDS) => {
            app.limiter.append(session.account, writer, now)
        }
        _ => app.limiter.call(session.account, now),
    }
    .map_err(ApiError::TooManyRequests)
}

async fn authenticate(app: &App, request: Request) -> Result<Request, ApiError> {
    let (mut parts, body) = request.into_parts();
    let credentials = Credentials::read(&parts.headers)?;
    let (session, key) = app
        .sessions
        .recognise(credentials.token)
        .ok_or(ApiError::Unauthenticated(
            "the token was not issued by this server",
        ))?;
    if let Some(seal) = parts.extensions.get::<Seal>() {
        seal.set(key.clone(), credentials.mac);
    }
    let limit = body_limit(&parts.method, parts.uri.path());
    if app.clock.now() >= session.expires_at {
        body::discard(&parts.headers, body, limit, app.body_grace).await;
        return Err(ApiError::SessionExpired);
    }
    let body = body::read(&parts.headers, body, limit, app.body_grace).await?;
    app.metrics.received(body.len());
    let body_hash = body::hash(&body).await;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mac = key.request_mac(parts.method.as_str(), path, credentials.counter, &body_hash);
    if !same(&mac, &credentials.mac) {
        return Err(ApiError::BadMac);
    }
    check_rate(app, &parts.method, parts.uri.path(), &session)?;
    parts.extensions.insert(Authentic {
        session,
        body,
        body_hash,
    });
    Ok(Request::from_parts(parts, Body::empty()))
}

/// The longest body of each call, bytes.
fn body_limit(method: &Method, path: &str) -> usize {
    match (method, path) {
        (&Method::POST, api::RECORDS) => api::RECORD_MAX,
        (&Method::POST, api::SNAPSHOTS) => api::COMMIT_MAX,
        (&Method::POST, api::LOCATE) => api::LOCATE_MAX * ChunkId::LEN,
        (&Method::PUT, path) if path.starts_with(api::PACKS) => api::PACK_MAX,
        (&Method::PUT, api::FILES) => api::FILES_MAX,
        _ => api::JSON_MAX,
    }
}

/// `Backstop <token> <counter> <MAC in hex>`.
struct Credentials<'a> {
    token: &'a str,
    counter: u64,
    mac: [u8; 32],
}

impl<'a> Credentials<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
            (Some(value), None) => Self::parse(value),
            _ => None,
        }
        .ok_or(ApiError::Unauthenticated(
            "the Authorization header is not \"Backstop <token> <counter> <MAC>\"",
        ))
    }

    fn parse(value: &'a str) -> Option<Self> {
        let mut words = value.split(' ');
        if words.next()? != AUTH_SCHEME {
            return None;
        }
        let token = words.next()?;
        let counter = words.next()?.parse().ok()?;
        let mut mac = [0; 32];
        hex::decode_to_slice(words.next()?, &mut mac).ok()?;
        words.next().is_none().then_some(Self { token, counter, mac })
    }
}

fn authentic(parts: &mut Parts) -> Result<Authentic, ApiError> {
    parts.extensions.remove().ok_or(ApiError::Unauthenticated(
        "this call belongs to a session; open one first",
    ))
}

impl FromRequestParts<Arc<App>> for ReadCall {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        let Authentic { session, body, .. } = authentic(parts)?;
        Ok(Self {
            account: session.account,
            uploads: session.writer.is_some() && !session.takeover,
            body,
            expires_at: session.expires_at,
        })
    }
}

impl FromRequestParts<Arc<App>> for AppendCall {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        let Authentic {
            session,
            body,
            body_hash,
        } = authentic(parts)?;
        Ok(Self {
            account: session.account,
            writer: session.writer.ok_or(ApiError::ReadOnly)?,
            body,
            body_hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_call_has_the_limit_of_its_own_body() {
        let limit = |method: &Method, path| body_limit(method, path);
        assert_eq!(limit(&Method::POST, "/v1/records"), api::RECORD_MAX);
        assert_eq!(limit(&Method::PUT, "/v1/packs/00"), api::PACK_MAX);
        assert_eq!(limit(&Method::POST, "/v1/snapshots"), api::COMMIT_MAX);
        assert_eq!(limit(&Method::PUT, "/v1/files"), api::FILES_MAX);
        assert_eq!(limit(&Method::POST, "/v1/chunks/locate"), 32 * api::LOCATE_MAX);
        assert_eq!(limit(&Method::POST, "/v1/elsewhere"), api::JSON_MAX);
        assert_eq!(limit(&Method::GET, "/v1/records"), api::JSON_MAX);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(value in "(Backstop )?[ -~]{0,80}") {
            let _ = Credentials::parse(&value);
        }

        #[test]
        fn credentials_are_read_as_they_were_written(token in "[0-9a-f]{1,40}", counter in any::<u64>(), mac in any::<[u8; 32]>()) {
            let value = format!("Backstop {token} {counter} {}", hex::encode(mac));
            let read = Credentials::parse(&value).unwrap();
            prop_assert_eq!((read.token, read.counter, read.mac), (token.as_str(), counter, mac));
        }
    }
}
