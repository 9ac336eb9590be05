//! Tenants in SQLite.

use super::{SqliteStore, accounts, writer::Job};
use crate::store::{HistoryPolicy, Tenancy};
use async_trait::async_trait;
use backstop_protocol::{api::AccountState, removal::RemovalWord};

crate::store::tenants::tenants!(
    sqlx::SqliteConnection,
    sqlx::query,
    sqlx::query_scalar,
    super::accounts::load
);

#[async_trait]
impl Tenancy for SqliteStore {
    async fn history_policy(
        &self,
        account: AccountId,
        policy: &HistoryPolicy,
    ) -> Result<HistoryPolicy, StoreError> {
        let mut connection = self.reads.acquire().await?;
        let account = accounts::load(&mut connection, account).await?;
        Ok(self.terms.history(policy, account.quota, account.used()))
    }

    async fn hear_owner(
        &self,
        account: AccountId,
        word: RemovalWord,
        now: UnixMillis,
    ) -> Result<AccountState, StoreError> {
        self.submit(|answer| Job::HearOwner(account, Box::new(word), now, answer))
            .await
    }

    async fn watch(&self, account: AccountId, now: UnixMillis) -> Result<Watched, StoreError> {
        let before = {
            let mut connection = self.reads.acquire().await?;
            accounts::load(&mut connection, account).await?
        };
        let mut after = before.clone();
        let watched = after.watch(&self.terms, now);
        // Most looks find nothing new, and are nothing to the writer.
        if !differs(&before, &after) {
            return Ok(watched);
        }
        self.submit(|answer| Job::Watch(account, now, answer)).await
    }

    async fn remove_some(&self, account: AccountId, now: UnixMillis) -> Result<Leaving, StoreError> {
        let leaving = {
            let mut connection = self.reads.acquire().await?;
            accounts::load(&mut connection, account).await?.is_leaving(now)
        };
        if !leaving {
            return Ok(Leaving::No);
        }
        self.submit(|answer| Job::RemoveSome(account, now, answer)).await
    }
}
