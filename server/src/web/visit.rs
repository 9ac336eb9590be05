//! Who asks for a page, as far as the request says it.

use super::{
    cookies::Cookie,
    failure::Failure,
    passes::{Holder, Pass},
};
use crate::{http::App, store::AccountId, transport::Client};
use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use std::{convert::Infallible, sync::Arc};

/// A request for a page.
pub(super) struct Visit {
    headers: HeaderMap,
    /// Whether the browser speaks TLS, with this server or with a proxy in front.
    pub(super) secure: bool,
}

impl Visit {
    pub(super) fn of(app: &App, parts: &Parts) -> Self {
        let peer = parts.extensions.get::<Client>();
        Self {
            headers: parts.headers.clone(),
            secure: peer.is_some_and(|peer| app.proxies.is_secure(*peer, &parts.headers)),
        }
    }

    /// What the request shows under a cookie's name.
    pub(super) fn values(&self, cookie: Cookie) -> impl Iterator<Item = &str> {
        cookie.values(self.secure, &self.headers)
    }

    fn passes<'a>(&'a self, app: &'a App, cookie: Cookie) -> impl Iterator<Item = Pass> + 'a {
        let now = app.clock.now();
        self.values(cookie)
            .filter_map(move |value| app.passes.recognise(value, now))
    }

    /// Whose backup the browser may see.
    pub(super) fn owner(&self, app: &App) -> Option<AccountId> {
        self.passes(app, Cookie::Owner)
            .find_map(|pass| match pass.holder {
                Holder::Owner(account) => Some(account),
                Holder::Operator => None,
            })
    }

    /// Whether the browser is the operator's.
    pub(super) fn is_operator(&self, app: &App) -> bool {
        self.passes(app, Cookie::Operator)
            .any(|pass| pass.holder == Holder::Operator)
    }

    /// Lets every pass under a cookie's name be good no more.
    pub(super) fn give_back(&self, app: &App, cookie: Cookie) {
        for pass in self.passes(app, cookie) {
            app.passes.give_back(&pass);
        }
    }
}

impl FromRequestParts<Arc<App>> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self::of(app, parts))
    }
}

/// The layer that refuses what a page of another site sends. Cookies do not come with it anyway; this keeps it from ending a
/// visit, and from beginning one. What browsers say of it they say over TLS and to this machine alone.
pub(super) async fn from_here(request: Request, next: Next) -> Response {
    let said = request.headers().get("sec-fetch-site");
    let elsewhere = said.is_some_and(|site| site != "same-origin" && site != "none");
    if elsewhere && request.method() == Method::POST {
        return Failure::Elsewhere.into_response();
    }
    next.run(request).await
}

/// The way to another page.
pub(super) fn see(path: &'static str) -> Response {
    (axum::http::StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}
