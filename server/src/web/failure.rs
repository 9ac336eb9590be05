//! Why there is no page, as a page: what happened, and what to do next.

use super::{
    page::{Nav, page, typed},
    passes::Stale,
};
use crate::{error::ApiError, store::StoreError};
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use backstop_protocol::id::{Network, NodeId};
use maud::{Markup, html};
use std::time::Duration;

/// Why somebody does not see what he asked for.
pub(super) enum Failure {
    /// He asked too often; how long to wait.
    Crowded(Duration),
    /// Another site sent him.
    Elsewhere,
    /// The form is not one of ours, or too long, or did not arrive.
    Form,
    /// The address does not take this method.
    Method,
    /// His login does not count.
    Stale(Stale),
    /// He has the node's key, and the node has no backup here.
    NoBackup(NodeId, Network),
    /// He shows no pass, or one whose hour is over.
    Over,
    /// The server failed, or cannot answer now.
    Failed(ApiError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Crowded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Elsewhere | Self::Stale(_) | Self::Over => StatusCode::FORBIDDEN,
            Self::Form => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoBackup(..) => StatusCode::NOT_FOUND,
            Self::Failed(ApiError::Unavailable(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Crowded(_) => "Too many requests",
            Self::Elsewhere => "Not from here",
            Self::Form => "That form was not understood",
            Self::Method => "Nothing is done here like this",
            Self::Stale(Stale::Expired) => "That login has expired",
            Self::Stale(Stale::Used) => "That login was used before",
            Self::Stale(Stale::Foreign) => "That login belongs to another browser",
            Self::NoBackup(..) => "No backup of this node is here",
            Self::Over => "You are not logged in",
            Self::Failed(ApiError::Unavailable(_)) => "The server cannot answer now",
            Self::Failed(_) => "The server failed",
        }
    }

    fn says(&self) -> Markup {
        match self {
            Self::Crowded(wait) => html! {
                p { "More was asked from your address than the server allows. Nothing was done. Wait "
                    (wait.as_secs().saturating_add(1)) " seconds, then load the page again." }
            },
            Self::Elsewhere => html! {
                p { "A page of another site sent you here with a form. Nothing was done." }
                p { "If you want to log in, " a href="./" { "begin on this server's own page" } "." }
            },
            Self::Form => html! {
                p { "A field was missing, or too much arrived, or too little. Nothing was done." }
                p { a href="./" { "Begin again" } "." }
            },
            Self::Method => html! {
                p { "This address answers to other requests alone. Nothing was done." }
                p { a href="./" { "Go to the first page" } "." }
            },
            Self::Stale(Stale::Expired) => html! {
                p { "What your node signed counts for ten minutes, and they are over. The signature was not looked at." }
                p { a href="./" { "Begin again" } ", and let the node sign the new text." }
            },
            Self::Stale(Stale::Used) => html! {
                p { "Each text that a node signs lets one browser in, once." }
                p { a href="./" { "Begin again" } ", and let the node sign the new text." }
            },
            Self::Stale(Stale::Foreign) => html! {
                p { "The text was made for another browser, or you began another login since, or this browser keeps no cookies. The signature was not looked at." }
                p { a href="./" { "Begin again" } ", and finish in the same window." }
            },
            Self::NoBackup(node, network) => html! {
                p { "You have proved that " code.long { (node.to_string()) } " is yours, and this server has no backup of it on "
                    (network.to_string()) "." }
                p { "Its servers are listed by " (typed("backstop server list")) " on the node's machine. If you meant another network, "
                    a href="./" { "begin again" } "." }
            },
            Self::Over => html! {
                p { "Nobody has proved in this browser to have a node's key, or the hour for which that counts is over." }
                p { a href="./" { "Log in with your node's key" } "." }
            },
            Self::Failed(ApiError::Unavailable(_)) => html! {
                p { "Its database is out of reach for the moment. Load the page again in a minute." }
                p { "Whether your node is backed up meanwhile, " (typed("backstop status")) " says on its machine." }
            },
            Self::Failed(_) => html! {
                p { "Nothing was changed. Its operator finds in the log what happened." }
                p { "Whether your node is backed up, " (typed("backstop status")) " says on its machine." }
            },
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if let Self::Failed(error) = &self {
            error.log();
        }
        let main = html! {
            h1 { (self.title()) }
            (self.says())
        };
        let mut response = page(self.status(), self.title(), Nav::None, &main);
        if let Self::Crowded(wait) = self {
            let seconds = wait.as_secs().saturating_add(1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
