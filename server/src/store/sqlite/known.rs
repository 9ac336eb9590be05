//! Accounts as the writer left them, so that most groups need not read theirs.
//!
//! They hold as long as no other connection commits anything, which SQLite's `data_version` tells inside the very transaction
//! that rests on them. What this connection does besides appends changes accounts too, each job at most one: whoever does it
//! forgets that one.

use crate::store::{Account, AccountId};
use std::collections::HashMap;

/// Most accounts that are kept, each of some 500 bytes.
const MOST: usize = 16_384;

/// What is known of accounts.
#[derive(Default)]
pub(super) struct Known {
    data_version: i64,
    accounts: HashMap<AccountId, Account>,
}

impl Known {
    /// The state of the database that they belong to.
    pub(super) fn data_version(&self) -> i64 {
        self.data_version
    }

    /// These accounts; `None` where one of them is not known.
    pub(super) fn of(&self, ids: impl Iterator<Item = AccountId>) -> Option<HashMap<AccountId, Account>> {
        ids.map(|id| Some((id, self.accounts.get(&id)?.clone())))
            .collect()
    }

    /// Accounts that were read in a transaction over this state of the database, as it left them.
    pub(super) fn read(&mut self, data_version: i64, accounts: HashMap<AccountId, Account>) {
        if self.data_version != data_version {
            self.forget();
            self.data_version = data_version;
        }
        self.left(accounts);
    }

    /// Accounts as a transaction over the same state left them.
    pub(super) fn left(&mut self, accounts: HashMap<AccountId, Account>) {
        if self.accounts.len().saturating_add(accounts.len()) > MOST {
            self.forget();
        }
        self.accounts.extend(accounts);
    }

    /// Lets go of one.
    pub(super) fn forget_one(&mut self, id: AccountId) {
        self.accounts.remove(&id);
    }

    /// Lets go of all.
    pub(super) fn forget(&mut self) {
        self.accounts.clear();
    }
}
