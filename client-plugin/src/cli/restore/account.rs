//! The node's account at the server: which secret it belongs to, and how it is taken over.

use super::secret::Candidate;
use crate::{
    directory::ServerConfig,
    keys::Keys,
    node::Ambient,
    quorum::ServerDoor,
    remote::{Connect, Identity, RemoteError, Server, Session},
};
use anyhow::{Context as _, bail};
use backstop_protocol::{
    api::AccountState,
    grant::{Grant, Scope, SignedGrant},
    id::{Network, NodeId, ServerKey},
    problem::ProblemCode,
};
use std::sync::Arc;

/// The grants of one node for one access key, the highest serial first; at least one.
pub(super) struct Grants {
    pub(super) node: NodeId,
    known: Vec<(Grant, SignedGrant)>,
}

/// The first of the candidates whose access key the server was shown a grant for.
pub(super) async fn find(
    server: &Server,
    candidates: Vec<Candidate>,
    network: Network,
) -> anyhow::Result<(Candidate, Grants)> {
    let tried = candidates.len();
    for candidate in candidates {
        let access_key = Keys::derive(&candidate.root).access.access_key();
        // What a server says here is worth what the node's signature under it is worth.
        let mut known: Vec<_> = server
            .grants(access_key)
            .await?
            .into_iter()
            .filter_map(|signed| Some((signed.verify().ok()?, signed)))
            .filter(|(grant, _)| grant.access_key == access_key && grant.network == network)
            .filter(|(grant, _)| candidate.node().is_none_or(|node| node == grant.node))
            .collect();
        known.sort_by_key(|(grant, _)| std::cmp::Reverse(grant.serial));
        if let Some(node) = known.first().map(|(grant, _)| grant.node) {
            known.retain(|(grant, _)| grant.node == node);
            return Ok((candidate, Grants { node, known }));
        }
    }
    let ways = if tried > 1 {
        " (the words were tried in both ways that nodes use them)"
    } else {
        ""
    };
    bail!(
        "{} keeps no backup on {network} that this secret opens{ways}: check --server and --network, and --generation \
         where setup was given one",
        server.url()
    )
}

/// How the account is reached.
pub(super) struct Account<'a> {
    pub(super) server: &'a Server,
    pub(super) key: ServerKey,
    pub(super) connect: &'a Connect,
    pub(super) keys: &'a Arc<Keys>,
    pub(super) ambient: &'a Ambient,
}

/// An open session for reading, and as whom it was opened.
pub(super) struct Reader {
    pub(super) session: Session,
    identity: Arc<Identity>,
    pub(super) grant: SignedGrant,
}

impl Account<'_> {
    /// Opens the account for reading. Where the known grant is no longer valid and the node's key is at hand, it signs
    /// another one.
    pub(super) async fn open(
        &self,
        candidate: &Candidate,
        grants: Grants,
        network: Network,
    ) -> anyhow::Result<(Reader, AccountState)> {
        let Some((newest, signed)) = grants.known.into_iter().next() else {
            bail!("the server knows no grant of this node");
        };
        let opened = match (self.read(grants.node, network, signed).await, &candidate.node_key) {
            (Err(error), Some(node_key)) if is_about_grant(&error) => {
                let serial = newest.serial.saturating_add(1);
                let grant = Grant {
                    serial,
                    expires_at: None,
                    scope: Scope::Append,
                    ..newest
                };
                self.read(grants.node, network, node_key.sign_grant(&grant)).await
            }
            (other, _) => other,
        };
        let (reader, state) = opened.context("the server does not open this node's account")?;
        if state.node != grants.node || state.network != network {
            bail!("{} opened the account of another node", self.server.url());
        }
        if state.head.is_empty() {
            bail!(
                "{} never received a batch of this node's database: there is nothing to restore",
                self.server.url()
            );
        }
        Ok((reader, state))
    }

    /// The way to one of the node's servers.
    pub(super) fn door(&self, reader: &Reader, server: ServerConfig) -> ServerDoor {
        ServerDoor {
            server,
            connect: self.connect.clone(),
            identity: Arc::clone(&reader.identity),
            ambient: self.ambient.clone(),
        }
    }

    async fn read(
        &self,
        node: NodeId,
        network: Network,
        grant: SignedGrant,
    ) -> Result<(Reader, AccountState), RemoteError> {
        let identity = Arc::new(Identity {
            keys: self.keys.clone(),
            node,
            network,
            grant: Some(grant.clone()),
            invite: None,
        });
        let (session, state) = self.session(Arc::clone(&identity)).await?;
        let reader = Reader {
            session,
            identity,
            grant,
        };
        Ok((reader, state))
    }

    async fn session(&self, identity: Arc<Identity>) -> Result<(Session, AccountState), RemoteError> {
        let Ambient { clock, rng } = self.ambient.clone();
        Session::open(
            self.server.url(),
            self.connect,
            self.key,
            identity,
            None,
            clock,
            rng,
        )
        .await
    }
}

fn is_about_grant(error: &RemoteError) -> bool {
    matches!(
        error.code(),
        Some(ProblemCode::GrantExpired | ProblemCode::GrantRevoked | ProblemCode::GrantMissing)
    )
}
