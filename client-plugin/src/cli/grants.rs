//! `backstop grant`, `grants`, `revoke`: which other devices may read this node's backup (SPEC 4.2, 4.5).
//!
//! Every grant and every revocation is signed by the node's own key: no server and no key file can give or end one.

mod give;
mod known;
mod revoke;
mod ticket;

pub(super) use give::{Args as GiveArgs, command as give};
pub(super) use known::{Args as ListArgs, command as list};
pub(super) use revoke::{Args as RevokeArgs, command as revoke};
pub(super) use ticket::Ticket;

use crate::{
    directory::ServerConfig,
    node::Node,
    remote::{Identity, RemoteError, Session},
};
use backstop_protocol::{
    api::{AccountGrants, AccountState},
    grant::SignedGrant,
};
use std::sync::Arc;

/// Opens a session for reading with one of the node's servers, with a grant of the caller's choice.
async fn open(
    node: &Node,
    server: &ServerConfig,
    grant: &SignedGrant,
) -> Result<(Session, AccountState), RemoteError> {
    let identity = Identity {
        keys: node.keys.clone(),
        node: node.config.node,
        network: node.config.network,
        grant: Some(grant.clone()),
        invite: None,
    };
    let (clock, rng) = (node.ambient.clock.clone(), node.ambient.rng.clone());
    Session::open(
        &server.url,
        &node.config.connect(),
        server.key,
        Arc::new(identity),
        None,
        clock,
        rng,
    )
    .await
}

/// What each server knows of this node's grants, in the order of the configuration.
async fn ask_all(node: &Node) -> Vec<(ServerConfig, Result<AccountGrants, RemoteError>)> {
    let mut answers = Vec::new();
    for server in &node.config.servers {
        let answer = match open(node, server, &node.config.grant).await {
            Ok((session, _)) => session.account_grants().await,
            Err(error) => Err(error),
        };
        answers.push((server.clone(), answer));
    }
    answers
}

/// The serial that no grant of this node has yet, as far as is known, and that no floor is above.
fn next_serial<'a>(node: &Node, answers: impl Iterator<Item = &'a AccountGrants>) -> anyhow::Result<u64> {
    let mut highest = node.config.grant.verify()?.serial;
    for signed in node.directory.granted()? {
        highest = highest.max(signed.verify()?.serial);
    }
    for answer in answers {
        highest = highest.max(answer.floor.saturating_sub(1));
        for known in &answer.grants {
            // What a server lists counts as far as the node signed it.
            if let Ok(grant) = known::signed(known).verify() {
                highest = highest.max(grant.serial);
            }
        }
    }
    Ok(highest.saturating_add(1))
}
