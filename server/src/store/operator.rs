//! What an operator's command may be about, and why it did nothing.

use super::{Account, StoreError};
use backstop_protocol::id::{Network, NodeId};

/// By how much the epochs of a store that was restored from a copy are raised: more than any time since that copy can have
/// seen. So no opening of that time fits again, whoever replays it, and what comes now is of a higher epoch than what was
/// lost (I7).
pub(super) const EPOCHS_PASSED: i64 = 1 << 20;

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no database.
    #[error("there is no database at {0}; say with --data DIR where the server keeps its data")]
    NoDatabase(String),
    /// The URL names no database.
    #[error("{0}")]
    Url(String),
    /// The database is at another version than this program.
    #[error(
        "the database belongs to another version of backstop-server; use the program that serves it, or start the server once with this one"
    )]
    OtherVersion,
    /// The database is being filled.
    #[error(
        "the database is being filled by `backstop-server copy` and not whole yet; use the one that it is copied from"
    )]
    NotWhole,
    /// No such node.
    #[error("this server has no node {0}; `backstop status` on the node's machine shows its id")]
    UnknownNode(NodeId),
    /// No such node on that network.
    #[error("this server has the node {0}, but not on {1}; it is there on {2}")]
    OtherNetwork(NodeId, Network, String),
    /// On several networks.
    #[error("the node {0} is here on several networks ({1}); choose one with --network")]
    WhichNetwork(NodeId, String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OperatorError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The one of a node's accounts, given all of them by their networks' names, that is meant. Without a network the node must
/// be there on one alone.
pub(super) fn choose(
    mut accounts: Vec<Account>,
    node: NodeId,
    network: Option<Network>,
) -> Result<Account, OperatorError> {
    let networks: Vec<_> = accounts
        .iter()
        .map(|account| account.network.to_string())
        .collect();
    let networks = networks.join(", ");
    if accounts.is_empty() {
        return Err(OperatorError::UnknownNode(node));
    }
    if let Some(network) = network {
        accounts.retain(|account| account.network == network);
    }
    match (accounts.pop(), network) {
        (Some(account), _) if accounts.is_empty() => Ok(account),
        (None, Some(network)) => Err(OperatorError::OtherNetwork(node, network, networks)),
        _ => Err(OperatorError::WhichNetwork(node, networks)),
    }
}
