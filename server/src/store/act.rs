//! What an operator does.

use super::{AccountId, Invite};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};

/// A node that may come without an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The node.
    pub node: NodeId,
    /// Its network.
    pub network: Network,
    /// The quota that it is given; else the server's.
    pub quota: Option<u64>,
    /// When it was allowed.
    pub allowed_at: UnixMillis,
}

/// What an operator does; each in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Asks for the removal of an account.
    Remove(AccountId, UnixMillis),
    /// Takes a removal back.
    Restore(AccountId),
    /// Gives an account a quota of its own, or takes it away.
    Quota(AccountId, Option<u64>),
    /// Lets a node come, or changes the quota it is to have.
    Allow(Allowed),
    /// Lets it come no more; an account that it has is not touched.
    Disallow(NodeId, Network),
    /// Makes an invitation.
    Invite(Invite),
    /// Revokes an invitation; whom it let in stays.
    Revoke(super::InviteId, UnixMillis),
}
