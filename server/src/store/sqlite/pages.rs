//! What pages ask of SQLite.

use super::SqliteStore;

crate::store::pages::pages!(sqlx::SqliteConnection, sqlx::query);

#[async_trait]
impl PageStore for SqliteStore {
    async fn account_of(&self, node: NodeId, network: Network) -> Result<Option<Account>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        account_of(&mut connection, node, network).await
    }

    async fn whole_account(&self, account: AccountId) -> Result<Account, StoreError> {
        let mut connection = self.reads.acquire().await?;
        super::accounts::load(&mut connection, account).await
    }

    async fn whole_accounts(&self, after: AccountId, most: usize) -> Result<Vec<Account>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        whole_accounts(&mut connection, after, most).await
    }

    async fn growth(&self, account: AccountId) -> Result<Growth, StoreError> {
        let mut view = self.reads.begin().await?;
        growth(&mut view, account).await
    }
}
