//! The proof that a server is there, has the key that it claims to have, and takes the node's grant.

use super::Identity;
use crate::{
    cli::wait::wait,
    keys::Keys,
    random::SharedRng,
    remote::{self, Connect, Server, Session},
};
use anyhow::{Context as _, ensure};
use backstop_protocol::{clock::Clock, id::ServerKey, problem::ProblemCode};
use std::sync::Arc;

/// The server that is to prove itself.
pub(super) struct Proof {
    pub(super) url: String,
    pub(super) connect: Connect,
    /// The key it must have; `None`: whichever it shows.
    pub(super) pinned: Option<ServerKey>,
    /// The invitation that it is shown.
    pub(super) invite: Option<String>,
}

/// What a server proved.
pub(super) struct Proved {
    /// The key that it has.
    pub(super) key: ServerKey,
    /// How many records of this node it holds.
    pub(super) records: u64,
}

/// Opens a session for reading, which changes nothing at the server. Its answer carries a MAC that only the holder of
/// the server's key can make, and the grant was judged before it: also where the answer is that there is no account
/// yet, because the plugin's first session makes it.
pub(super) fn prove(
    proof: &Proof,
    identity: &Identity,
    clock: &Arc<dyn Clock>,
    rng: &SharedRng,
) -> anyhow::Result<Proved> {
    wait(async {
        // What a server says about itself is not believed yet, but it tells a changed key from a broken line.
        let shown = Server::new(&proof.url, &proof.connect)?.info().await?.server;
        if let Some(pinned) = proof.pinned {
            ensure!(
                shown == pinned,
                "{} shows the key {shown}, but {pinned} was expected: this is another server, or somebody in \
                 between. Nothing was changed; ask its operator",
                proof.url
            );
        }
        let access = Arc::new(remote::Identity {
            keys: Arc::new(Keys::derive(&identity.root)),
            node: identity.node,
            network: identity.network,
            grant: Some(identity.grant.clone()),
            invite: proof.invite.clone(),
        });
        let (clock, rng) = (Arc::clone(clock), rng.clone());
        let opened = Session::open(&proof.url, &proof.connect, shown, access, None, clock, rng);
        let account = match opened.await {
            Ok((_, account)) => account,
            Err(error) if error.code() == Some(ProblemCode::NotFound) => {
                return Ok(Proved {
                    key: shown,
                    records: 0,
                });
            }
            Err(error) => return Err(error).context("the server does not take this node's grant"),
        };
        ensure!(
            account.node == identity.node && account.network == identity.network,
            "{} opened the account of another node",
            proof.url
        );
        Ok(Proved {
            key: shown,
            records: account.head.seq,
        })
    })
}

#[cfg(test)]
mod tests;
