//! What a store tells an operator's machines about itself.

use super::StoreError;
use async_trait::async_trait;
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// How much there is, of all accounts together and of some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Accounts.
    pub accounts: u64,
    /// Sealed bytes of all logs.
    pub log_bytes: u64,
    /// Accounts that are held, because a comparison failed.
    pub held: u64,
    /// As many accounts as were asked for, the oldest ones.
    pub nodes: Vec<NodeGauges>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGauges {
    /// Whose.
    pub node: NodeId,
    /// Where.
    pub network: Network,
    /// Sealed bytes of its log.
    pub log_bytes: u64,
    /// Sealed bytes of its newest snapshot.
    pub snapshot_bytes: u64,
    /// When its last record arrived; `None` before the first.
    pub last_record_at: Option<UnixMillis>,
}

/// Connections to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGauges {
    /// In use now.
    pub used: u32,
    /// Open at most.
    pub most: u32,
}

/// The part of a [`Store`](super::Store) that its operator looks at.
#[async_trait]
pub trait GaugeStore: Send + Sync {
    /// How much there is, with at most so many accounts by name.
    async fn overview(&self, nodes: u32) -> Result<Overview, StoreError>;

    /// The connections to the database.
    fn pool(&self) -> PoolGauges;

    /// How many appends committed together, each time.
    fn group_sizes(&self) -> &GroupSizes;
}

/// How many appends committed together, each time.
#[derive(Clone, Debug)]
pub struct GroupSizes(pub(crate) Histogram);

impl Default for GroupSizes {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1.0, 2.0, 11)))
    }
}

impl GroupSizes {
    /// A group was committed.
    pub(super) fn committed(&self, appends: usize) {
        self.0
            .observe(f64::from(u32::try_from(appends).unwrap_or(u32::MAX)));
    }
}
