//! What a mirror asks of a store, and who looks after grants.

use super::{AccountId, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    api::AccountGrants,
    id::{ChunkId, SnapshotId},
};

/// The part of a [`super::Store`] that concerns devices beside the plugin.
#[async_trait]
pub trait Devices: Send + Sync {
    /// The floor of serials, and the grants that opened sessions of this account were shown, the highest serial first; at
    /// most [`backstop_protocol::api::ACCOUNT_GRANTS_MAX`]. Refusal: [`super::Refusal::NotFound`].
    async fn account_grants(&self, account: AccountId) -> Result<AccountGrants, StoreError>;

    /// The ids of a complete snapshot's chunks above `after`, ascending, at most `most`; `None` where there is no such
    /// snapshot.
    async fn snapshot_chunks(
        &self,
        account: AccountId,
        snapshot: SnapshotId,
        after: Option<ChunkId>,
        most: usize,
    ) -> Result<Option<Vec<ChunkId>>, StoreError>;
}
