//! What a store does for those who have accounts in it.

#[cfg(doc)]
use super::{Account, Refusal};
use super::{AccountId, HistoryPolicy, Leaving, StoreError, Watched};
use async_trait::async_trait;
use backstop_protocol::{api::AccountState, clock::UnixMillis, removal::RemovalWord};

/// The part of a store that concerns room, silence and removal; every method is one transaction.
#[async_trait]
pub trait Tenancy {
    /// How much history the account keeps of what the policy says: less where its room runs out (I13).
    async fn history_policy(
        &self,
        account: AccountId,
        policy: &HistoryPolicy,
    ) -> Result<HistoryPolicy, StoreError>;

    /// Takes in the owner's word on the account's removal, whose signature was checked, by [`Account::hear_owner`].
    /// Refusal: [`Refusal::BadRemoval`].
    async fn hear_owner(
        &self,
        account: AccountId,
        word: RemovalWord,
        now: UnixMillis,
    ) -> Result<AccountState, StoreError>;

    /// How the account is doing, and what was not said of it before, by [`Account::watch`]: of several servers one
    /// hears each thing.
    async fn watch(&self, account: AccountId, now: UnixMillis) -> Result<Watched, StoreError>;

    /// Does a little of the removal of an account for which it is due. Once that has begun nothing is written to the account
    /// any more, and nothing takes it back.
    async fn remove_some(&self, account: AccountId, now: UnixMillis) -> Result<Leaving, StoreError>;
}
