//! The way in for a node's owner: he says who he is, his node signs a text (SPEC 4.7), he pastes the signature.

use super::{
    cookies::Cookie,
    failure::Failure,
    forms::{self, Named, Signed},
    page::{Nav, page, when},
    passes::PASS_LIFE_MS,
    visit::{Visit, see},
};
use crate::http::App;
use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use backstop_protocol::{
    clock::UnixMillis,
    id::Network,
    login::{BadLogin, Login, SignedLogin},
};
use maud::{Markup, html};
use std::sync::Arc;

pub(super) async fn to_home() -> Response {
    see("./")
}

/// The first page, or the backup where somebody is logged in.
pub(super) async fn home(State(app): State<Arc<App>>, visit: Visit) -> Response {
    if visit.owner(&app).is_some() {
        return see("backup");
    }
    ask_name(&app, StatusCode::OK, None)
}

fn ask_name(app: &App, status: StatusCode, wrong: Option<&str>) -> Response {
    let main = html! {
        h1 { "Look at your node's backup" }
        p.lead {
            "This server keeps encrypted backups of Core Lightning nodes and cannot read them. "
            "If it keeps yours, it shows you how fresh and how large it is."
        }
        form.panel method="post" action="login" {
            @if let Some(wrong) = wrong { p.wrong #wrong role="alert" { (wrong) } }
            label for="node" { "Node id" }
            p.hint #node-hint { "66 digits; " code { "lightning-cli getinfo" } " says it as " code { "id" } "." }
            input #node name="node" type="text" required maxlength="200" autocomplete="off" autocapitalize="none" spellcheck="false"
                aria-describedby=(if wrong.is_some() { "node-hint wrong" } else { "node-hint" }) aria-invalid=[wrong.map(|_| "true")];
            label for="network" { "Network" }
            select #network name="network" {
                @for network in Network::ALL { option value=(network.as_str()) { (network.as_str()) } }
            }
            button type="submit" { "Continue" }
        }
        p { "In the next step your node signs a text that proves it is yours. No secret is asked for, and nothing can be changed or removed here." }
        p.fine { "This server's key is " code.long { (app.passes.server().to_string()) } ". Nodes pinned it at setup." }
    };
    page(status, "Look at your node's backup", Nav::None, &main)
}

/// Gives this browser a text for the node to sign. Whether the node has a backup here is not looked at.
pub(super) async fn begin(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (visit, named): (Visit, Named) = forms::read(&app, request).await?;
    let (Some(node), Some(network)) = (named.node(), named.network()) else {
        let wrong = "That is no node id. It has 66 digits, 0 to 9 and a to f, and begins with 02 or 03.";
        return Ok(ask_name(&app, StatusCode::UNPROCESSABLE_ENTITY, Some(wrong)));
    };
    let now = app.clock.now();
    let (secret, login) = app.passes.challenge(node, network, now);
    let mut response = ask_signature(StatusCode::OK, &login, now, None);
    let life = login.expires_at.saturating_sub(now.as_secs());
    keep(&mut response, Cookie::Login.set(visit.secure, &secret, life));
    Ok(response)
}

/// What to type on the node's machine. The text has no quotes in it.
fn command(login: &Login) -> String {
    let network = match login.network {
        Network::Bitcoin => String::new(),
        other => format!("--network={other} "),
    };
    format!("lightning-cli {network}signmessage '{login}'")
}

fn ask_signature(status: StatusCode, login: &Login, now: UnixMillis, wrong: Option<Markup>) -> Response {
    let until = UnixMillis(login.expires_at.saturating_mul(1000));
    let invalid = wrong.is_some();
    let main = html! {
        h1 { "Prove that the node is yours" }
        @if let Some(wrong) = wrong { div.wrong #wrong role="alert" { (wrong) } }
        ol.steps {
            li {
                h2 #command-label { "Type this on the node's machine" }
                pre.command tabindex="0" role="group" aria-labelledby="command-label" { code { (command(login)) } }
                p.hint { "A click or a tap selects all of it. The text says what it is for: to look at this server's page, in this browser, until "
                    (when(until, now)) ". It moves no funds, and gives no right to change or remove anything." }
            }
            li {
                form method="post" action="proof" {
                    h2 { label for="signature" { "Paste what it answers" } }
                    p.hint #signature-hint { "All of the answer, or only what stands behind " code { "zbase" } "." }
                    textarea #signature name="signature" rows="6" required maxlength="4000" autocomplete="off" autocapitalize="none" spellcheck="false"
                        aria-describedby=(if invalid { "signature-hint wrong" } else { "signature-hint" }) aria-invalid=[invalid.then_some("true")] {}
                    input type="hidden" name="text" value=(login.to_string());
                    button type="submit" { "Show my backup" }
                }
            }
        }
        p { a href="./" { "Begin again" } " for another node or network." }
    };
    page(status, "Prove that the node is yours", Nav::None, &main)
}

/// Lets the browser in. Its own text is judged before a signature is looked at, and the signature before the store is asked.
pub(super) async fn prove(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let (visit, form): (Visit, Signed) = forms::read(&app, request).await?;
    let login: Login = form.text.parse().map_err(|_| Failure::Form)?;
    let now = app.clock.now();
    let judged = app.passes.judge(&login, visit.values(Cookie::Login), now);
    judged.map_err(Failure::Stale)?;
    let again = |wrong: Markup| ask_signature(StatusCode::UNPROCESSABLE_ENTITY, &login, now, Some(wrong));
    let Some(signature) = form.zbase() else {
        return Ok(again(html! {
            p { "There is no signature in what you pasted. It is a word of 104 letters and digits, behind " code { "zbase" }
                " in the answer. Copy the whole answer and paste it again." }
        }));
    };
    let text = form.text;
    match (SignedLogin { text, signature }).verify() {
        Ok(_) => {}
        Err(BadLogin::Foreign { node, signer }) => {
            return Ok(again(html! {
                p { "That signature is not your node's, or not for this text. If the text was changed on the way, copy the command and type it again, exactly." }
                p { "You named node " code.long { (node.to_string()) } ". For this very text the signature would be of "
                    code.long { (signer.to_string()) } ": if that one is yours, " a href="./" { "begin again" } " with it." }
            }));
        }
        Err(BadLogin::Text | BadLogin::Signature(_)) => {
            return Ok(again(html! {
                p { "That is a word as long as a signature, but it is none: a letter may have been lost or changed. Copy the whole answer and paste it again." }
            }));
        }
    }
    let found = app.store.account_of(login.node, login.network).await?;
    let account = found
        .filter(|account| !account.going)
        .ok_or(Failure::NoBackup(login.node, login.network))?;
    let pass = app
        .passes
        .redeem(&login, account.id, now)
        .map_err(Failure::Stale)?;
    tracing::info!(account = %account.id, "a node's owner logged in to look at its backup");
    let mut response = see("backup");
    keep(
        &mut response,
        Cookie::Owner.set(visit.secure, &pass, PASS_LIFE_MS / 1000),
    );
    keep(&mut response, Cookie::Login.end(visit.secure));
    Ok(response)
}

/// Ends the visit.
pub(super) async fn leave(State(app): State<Arc<App>>, visit: Visit) -> Response {
    visit.give_back(&app, Cookie::Owner);
    let mut response = see("./").into_response();
    keep(&mut response, Cookie::Owner.end(visit.secure));
    response
}

/// Puts a cookie beside those that an answer sets already.
pub(super) fn keep(response: &mut Response, cookie: Option<header::HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::id::{Challenge, NodeId, ServerKey};

    #[test]
    fn a_command_has_one_argument_in_quotes_and_names_every_network_but_the_main_one() {
        let login = |network| Login {
            server: ServerKey([1; 32]),
            node: NodeId([2; 33]),
            network,
            challenge: Challenge([3; 16]),
            expires_at: 4,
        };
        let main = command(&login(Network::Bitcoin));
        assert!(main.starts_with("lightning-cli signmessage 'Backstop login 1: to the page of server 01"));
        assert!(main.ends_with(", expires 4'"));
        for network in Network::ALL {
            let text = command(&login(network));
            assert_eq!(text.matches('\'').count(), 2);
            let named = text.contains(&format!("--network={network} signmessage"));
            assert_eq!(named, network != Network::Bitcoin);
        }
    }
}
