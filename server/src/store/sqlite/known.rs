//! Accounts as the writer left them, so that most groups need not read theirs.
//!
//! They hold as long as no other connection commits anything, be it another process's or the one that does all but appends, which
//! SQLite's `data_version` tells inside the very transaction that rests on them.

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
    /// Lets go of all, where the database is in another state than the one they belong to.
    pub(super) fn at(&mut self, data_version: i64) {
        if self.data_version != data_version {
            self.accounts.clear();
            self.data_version = data_version;
        }
    }

    /// An account in the state that was named last.
    pub(super) fn of(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// Accounts as a transaction over that state left them.
    pub(super) fn left(&mut self, accounts: HashMap<AccountId, Account>) {
        if self.accounts.len().saturating_add(accounts.len()) > MOST {
            self.accounts.clear();
        }
        self.accounts.extend(accounts);
    }
}
