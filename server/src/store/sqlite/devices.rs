//! What devices beside the plugin ask for.

use super::{SqliteStore, reads, snapshots};
use crate::store::{AccountId, Devices, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    api::AccountGrants,
    id::{ChunkId, SnapshotId},
};

#[async_trait]
impl Devices for SqliteStore {
    async fn account_grants(&self, account: AccountId) -> Result<AccountGrants, StoreError> {
        reads::account_grants(&self.reads, account).await
    }

    async fn snapshot_chunks(
        &self,
        account: AccountId,
        snapshot: SnapshotId,
        after: Option<ChunkId>,
        most: usize,
    ) -> Result<Option<Vec<ChunkId>>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        snapshots::chunks(&mut connection, account, snapshot, after, most).await
    }
}
