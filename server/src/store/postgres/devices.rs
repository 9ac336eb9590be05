//! What devices beside the plugin ask for.

use super::{PostgresStore, reads, snapshots};
use crate::store::{AccountId, Devices, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    api::AccountGrants,
    id::{ChunkId, SnapshotId},
};

#[async_trait]
impl Devices for PostgresStore {
    async fn account_grants(&self, account: AccountId) -> Result<AccountGrants, StoreError> {
        self.database
            .read(&account, |connection, account| {
                Box::pin(reads::account_grants(connection, *account))
            })
            .await
    }

    async fn snapshot_chunks(
        &self,
        account: AccountId,
        snapshot: SnapshotId,
        after: Option<ChunkId>,
        most: usize,
    ) -> Result<Option<Vec<ChunkId>>, StoreError> {
        self.database
            .read(
                &(account, snapshot, after, most),
                |connection, (account, snapshot, after, most)| {
                    Box::pin(snapshots::chunks(connection, *account, *snapshot, *after, *most))
                },
            )
            .await
    }
}
