//! What pages ask of PostgreSQL.

use super::PostgresStore;

crate::store::pages::pages!(sqlx::PgConnection, super::cells::query);

#[async_trait]
impl PageStore for PostgresStore {
    async fn account_of(&self, node: NodeId, network: Network) -> Result<Option<Account>, StoreError> {
        self.database
            .read(&(node, network), |connection, (node, network)| {
                Box::pin(account_of(connection, *node, *network))
            })
            .await
    }

    async fn whole_account(&self, account: AccountId) -> Result<Account, StoreError> {
        self.load(account).await
    }

    async fn whole_accounts(&self, after: AccountId, most: usize) -> Result<Vec<Account>, StoreError> {
        self.database
            .read(&(after, most), |connection, (after, most)| {
                Box::pin(whole_accounts(connection, *after, *most))
            })
            .await
    }

    async fn growth(&self, account: AccountId) -> Result<Growth, StoreError> {
        self.database
            .read(&account, |connection, account| {
                Box::pin(growth(connection, *account))
            })
            .await
    }
}
