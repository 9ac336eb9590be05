//! What every page has around it: the head, the way out, the style, and the headers that keep a browser from anything else.

use crate::amounts::{Date, distance};
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use backstop_protocol::clock::UnixMillis;
use maud::{DOCTYPE, Markup, html};

pub(super) const STYLE_PATH: &str = "/style.css";
pub(super) const ICON_PATH: &str = "/icon.svg";
const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");

/// What a browser may do with a page: take its style and its icon from here, send forms here, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Whom a page is for, and whether it offers him the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nav {
    /// Somebody who is not logged in.
    None,
    /// A node's owner.
    Owner,
    /// Who may be the operator.
    Door,
    /// The operator.
    Operator,
}

impl Nav {
    fn leave(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Door => None,
            Self::Owner => Some("logout"),
            Self::Operator => Some("fleet-logout"),
        }
    }
}

/// A whole page.
pub(super) fn page(status: StatusCode, title: &str, nav: Nav, main: &Markup) -> Response {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Backstop" }
                link rel="icon" href="icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="style.css";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    span.brand { "Backstop" }
                    @if let Some(leave) = nav.leave() {
                        form method="post" action=(leave) { button.quiet type="submit" { "Log out" } }
                    }
                }
                main #main { (main) }
                footer {
                    @match nav {
                        Nav::None | Nav::Owner => {
                            p { "What this page shows is this server's word. It cannot read your backup, and it could lie about it. What proves a backup is "
                                (typed("backstop verify")) ", on the node's machine." }
                        }
                        Nav::Door | Nav::Operator => {
                            p { "Whether a backup restores, nobody but the node's owner can prove, with " (typed("backstop verify")) "." }
                        }
                    }
                }
            }
        }
    };
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, kind, document.into_string()).into_response()
}

/// Something to be typed: a tap selects all of it, and no line ends inside of a word.
pub(super) fn typed(command: &str) -> Markup {
    html! {
        code.typed {
            @for (at, word) in command.split(' ').enumerate() {
                @if at > 0 { " " }
                span { (word) }
            }
        }
    }
}

/// A time, with how far it is from now.
pub(super) fn when(at: UnixMillis, now: UnixMillis) -> Markup {
    let date = Date::of(at);
    html! {
        time datetime=(date.iso()) { (date.minute()) }
        @if at > now { " (in " (distance(at, now)) ")" } @else { " (" (distance(at, now)) " ago)" }
    }
}

/// A table that becomes a list of cards where there is no room for it. The first cell of each row says what it is about. Roles are
/// written out, because a browser forgets them once cells are laid out otherwise.
pub(super) fn table(caption: &str, heads: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" { @for head in heads { th scope="col" role="columnheader" { (head) } } }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (at, (head, cell)) in heads.iter().zip(row).enumerate() {
                            @if at == 0 {
                                th scope="row" role="rowheader" { (cell) }
                            } @else {
                                td role="cell" data-label=(head) { span { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The style sheet.
pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

/// The icon.
pub(super) async fn icon() -> Response {
    asset("image/svg+xml", ICON)
}

/// It holds nothing of anybody, and may be kept for a while.
fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "max-age=3600"),
    ];
    (headers, text).into_response()
}

/// The layer that puts the headers on whatever leaves.
pub(super) async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), clipboard-read=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_part_of_a_page() {
        let hostile = "</td><script>alert(1)</script>\"' onload=x &amp;";
        let cell = html! { (hostile) };
        let text = table(hostile, &[hostile, hostile], &[vec![cell.clone(), cell]]).into_string();
        assert!(!text.contains("<script") && !text.contains("\"'"), "{text}");
        assert_eq!(text.matches("&lt;script&gt;").count(), 6);
    }
}
