//! Why a store did not do what it was asked.

use backstop_protocol::{
    clock::UnixMillis,
    head::Head,
    id::{ChunkId, RecordHash},
    quota::Quota,
};
use std::error::Error;

/// A rule that the request breaks. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such thing in this account, or no such account.
    #[error("there is no such thing in this account")]
    NotFound,
    /// No grant was shown, and none is remembered.
    #[error("no grant is known for this access key")]
    GrantMissing,
    /// The grant's serial is below the account's floor.
    #[error("the grant was revoked")]
    GrantRevoked,
    /// The grant's time is over.
    #[error("the grant has expired")]
    GrantExpired,
    /// The grant allows less than what the session is for.
    #[error("the grant allows reading only")]
    ScopeInsufficient,
    /// The account is not at the epoch that the claim expects.
    #[error("the account is at epoch {epoch}")]
    EpochMismatch {
        /// The account's epoch.
        epoch: u64,
        /// Where its chain ends.
        head: Head,
        /// When its writer opened.
        since: Option<UnixMillis>,
    },
    /// The claim is one that no writer can make.
    #[error("bad claim: {0}")]
    BadClaim(&'static str),
    /// Another instance is the writer, and the claim does not take over.
    #[error("another instance is the writer since {}", .since.0)]
    OtherInstance {
        /// The account's epoch.
        epoch: u64,
        /// When its writer opened.
        since: UnixMillis,
    },
    /// The session's run is no longer the writer.
    #[error("another run is the writer")]
    Fenced {
        /// The account's epoch.
        epoch: u64,
        /// When its writer opened.
        since: Option<UnixMillis>,
    },
    /// The store is a copy of an earlier time, and the node's owner has not said yet that it goes on from there.
    #[error(
        "nothing is taken until the node's owner has looked at it: stop lightningd and type `backstop adopt` there, or \
         `backstop restore` where that machine is gone"
    )]
    ServerRestored {
        /// The account's epoch.
        epoch: u64,
        /// When its operator said so.
        since: UnixMillis,
    },
    /// Of another timeline than the account's.
    #[error("it belongs to another timeline")]
    WrongTimeline,
    /// The record does not continue the chain.
    #[error("the chain ends in {head}")]
    NotNext {
        /// Where the chain ends.
        head: Head,
    },
    /// The snapshot's base is no record of the log.
    #[error("record {seq} of the log does not have the hash {hash}")]
    NotOnChain {
        /// The base.
        seq: u64,
        /// The hash it should have.
        hash: RecordHash,
    },
    /// Chunks that the snapshot needs are not there.
    #[error("{} or more chunks are not there", .0.len())]
    ChunksMissing(Vec<ChunkId>),
    /// The report of a comparison is one that no client can make.
    #[error("bad proof: {0}")]
    BadProof(&'static str),
    /// The server takes no new node on these terms. Which of them are not met is said to nobody.
    #[error(
        "this server takes in a node only with a good invitation, or after its operator allowed it; ask the operator, then run backstop setup again, with --invite where you were given one"
    )]
    RegistrationClosed,
    /// The account's room is used up.
    #[error(
        "{bytes} bytes more do not fit: the node uses {} of {} bytes, and may use {} at most; ask the server's operator for more room (backstop-server node quota NODE SIZE). What is stored stays restorable",
        quota.used, quota.bytes, quota.most
    )]
    QuotaExceeded {
        /// The account's room.
        quota: Quota,
        /// What did not fit.
        bytes: u64,
    },
    /// The owner's word on the removal is not worth anything.
    #[error("bad removal: {0}")]
    BadRemoval(&'static str),
    /// The commit contradicts itself or what is stored.
    #[error("bad commit: {0}")]
    BadCommit(&'static str),
}

/// Why a method of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// By rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No room. Nothing was changed.
    #[error("the database is full")]
    Full,
    /// Not now: busy for too long, or closing.
    #[error("the database cannot answer now: {0}")]
    Unavailable(String),
    /// The database failed, or holds what it must not hold.
    #[error("the database failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

impl StoreError {
    /// What the caller needs is being removed: the same request succeeds when that is done.
    pub(super) fn being_removed() -> Self {
        Self::Unavailable("what it needs is being removed".to_owned())
    }

    /// A row that no transaction of ours can have written.
    pub(super) fn corrupt(what: &'static str) -> Self {
        Self::Failed(format!("a stored value is not a {what}").into())
    }
}
