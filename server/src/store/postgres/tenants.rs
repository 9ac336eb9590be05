//! Tenants in PostgreSQL.

use super::{PostgresStore, accounts};
use crate::store::{HistoryPolicy, Tenancy};
use async_trait::async_trait;
use backstop_protocol::{api::AccountState, removal::RemovalWord};

crate::store::tenants::tenants!(
    sqlx::PgConnection,
    super::cells::query,
    super::cells::scalar,
    super::accounts::lock
);

impl PostgresStore {
    pub(super) async fn load(&self, account: AccountId) -> Result<Account, StoreError> {
        self.database
            .read(&account, |connection, account| {
                Box::pin(accounts::load(connection, *account))
            })
            .await
    }
}

#[async_trait]
impl Tenancy for PostgresStore {
    async fn history_policy(
        &self,
        account: AccountId,
        policy: &HistoryPolicy,
    ) -> Result<HistoryPolicy, StoreError> {
        let account = self.load(account).await?;
        Ok(self.terms.history(policy, account.quota, account.used()))
    }

    async fn hear_owner(
        &self,
        account: AccountId,
        word: RemovalWord,
        now: UnixMillis,
    ) -> Result<AccountState, StoreError> {
        self.database
            .write(
                (account, word, self.terms.clone(), now),
                |connection, (account, word, terms, now)| {
                    Box::pin(async move {
                        let account = hear_owner(connection, *account, word, terms, *now).await?;
                        accounts::state(connection, &account, terms, *now).await
                    })
                },
            )
            .await
    }

    async fn watch(&self, account: AccountId, now: UnixMillis) -> Result<Watched, StoreError> {
        let before = self.load(account).await?;
        let mut after = before.clone();
        let watched = after.watch(&self.terms, now);
        // Most looks find nothing new, and lock nothing.
        if !differs(&before, &after) {
            return Ok(watched);
        }
        self.database
            .write(
                (account, self.terms.clone(), now),
                |connection, (account, terms, now)| Box::pin(watch(connection, *account, terms, *now)),
            )
            .await
    }

    async fn remove_some(&self, account: AccountId, now: UnixMillis) -> Result<Leaving, StoreError> {
        if !self.load(account).await?.is_leaving(now) {
            return Ok(Leaving::No);
        }
        self.database
            .write((account, now), |connection, (account, now)| {
                Box::pin(remove_some(connection, *account, *now))
            })
            .await
    }
}
