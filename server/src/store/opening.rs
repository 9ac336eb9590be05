//! Openings, and who writes by them.

use super::{ShownGrant, ShownInvite};
use backstop_protocol::{
    clock::UnixMillis,
    grant::Scope,
    id::{AccessKey, InstanceId, Network, NodeId, RunId},
    session::WriterClaim,
};

/// Who writes: an instance in one of its runs, at the epoch that the run raised the account to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The lightning-dir.
    pub instance: InstanceId,
    /// The life of the plugin process.
    pub run: RunId,
    /// The epoch it opened with.
    pub epoch: u64,
}

impl From<&WriterClaim> for Writer {
    fn from(claim: &WriterClaim) -> Self {
        Self {
            instance: claim.instance,
            run: claim.run,
            epoch: claim.epoch,
        }
    }
}

/// An opening whose signature, and whose grant's signature, were checked.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// The account's node.
    pub node: NodeId,
    /// The account's network.
    pub network: Network,
    /// The key that signed the opening.
    pub access_key: AccessKey,
    /// What the session is for.
    pub scope: Scope,
    /// The grant in the opening; it speaks for this node, network and key.
    pub grant: Option<ShownGrant>,
    /// There exactly where the scope is [`Scope::Append`].
    pub claim: Option<WriterClaim>,
    /// The invitation that it shows; judged where there is no account yet, and looked at nowhere else.
    pub invite: Option<ShownInvite>,
    /// The server's clock.
    pub now: UnixMillis,
}

impl SessionRequest {
    /// Whether it may make an account where there is none: the node itself said that this key may append for it.
    /// So `setup` can prove that a server takes the node before anything is written.
    #[must_use]
    pub fn registers(&self) -> bool {
        self.grant
            .as_ref()
            .is_some_and(|shown| shown.grant.scope == Scope::Append)
    }
}
