//! The node's account at the server: which secret it belongs to, and how it is taken over.

use super::secret::Candidate;
use crate::{
    keys::Keys,
    node::Ambient,
    remote::{Connect, Identity, RemoteError, Server, Session},
};
use anyhow::{Context as _, bail};
use backstop_protocol::{
    api::AccountState,
    grant::{Grant, Scope, SignedGrant},
    id::{InstanceId, Network, NodeId, RunId, ServerKey},
    problem::ProblemCode,
    session::WriterClaim,
};
use std::sync::Arc;

/// How often a takeover follows an epoch that the old machine raises meanwhile.
const TAKEOVER_TRIES: u32 = 8;

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
    grant: SignedGrant,
}

/// The account with every other writer fenced off.
pub(super) struct Taken {
    pub(super) session: Session,
    /// The account as it stood right after the fence: nobody else appends to it.
    pub(super) state: AccountState,
    pub(super) instance: InstanceId,
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

    /// Raises the epoch for a new writer. From here on every other one is refused, at its next batch at the latest.
    pub(super) async fn take_over(
        &self,
        reader: &Reader,
        state: &AccountState,
        instance: InstanceId,
    ) -> anyhow::Result<Taken> {
        let run = RunId(self.ambient.rng.array());
        let mut expected_epoch = state.epoch;
        for _ in 0..TAKEOVER_TRIES {
            let claim = WriterClaim {
                instance,
                run,
                expected_epoch,
                epoch: expected_epoch.saturating_add(1),
                takeover: true,
            };
            match self.session(Arc::clone(&reader.identity), Some(claim)).await {
                Ok((session, state)) => {
                    return Ok(Taken {
                        session,
                        state,
                        instance,
                        grant: reader.grant.clone(),
                    });
                }
                Err(RemoteError::Refused { problem, .. }) if problem.code == ProblemCode::EpochMismatch => {
                    expected_epoch = problem.epoch.unwrap_or(expected_epoch.saturating_add(1));
                }
                Err(error) => return Err(error).context("the server does not let this restore take over"),
            }
        }
        bail!("another machine keeps opening this node's backup: stop lightningd there first")
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
        });
        let (session, state) = self.session(Arc::clone(&identity), None).await?;
        let reader = Reader {
            session,
            identity,
            grant,
        };
        Ok((reader, state))
    }

    async fn session(
        &self,
        identity: Arc<Identity>,
        claim: Option<WriterClaim>,
    ) -> Result<(Session, AccountState), RemoteError> {
        let Ambient { clock, rng } = self.ambient.clone();
        Session::open(
            self.server.url(),
            self.connect,
            self.key,
            identity,
            claim,
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
