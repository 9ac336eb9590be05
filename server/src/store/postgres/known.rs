//! Accounts as this process's appends left them, so that most groups need not read theirs.
//!
//! Whoever writes a row of an account gives it another version, in whichever process: an account that is known is as it was
//! seen if its row still has the version of then, which the database checks in the transaction that rests on it.

use crate::store::{Account, AccountId, Append};
use std::collections::HashMap;

/// Most accounts that are kept, each of some 500 bytes.
const MOST: usize = 16_384;

/// An account and the version of its row: the transaction that wrote it.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) account: Account,
    pub(super) version: i64,
}

/// What is known of accounts.
#[derive(Default)]
pub(super) struct Known(HashMap<AccountId, Seen>);

impl Known {
    /// The accounts of these appends; `None` where one of them is not known.
    pub(super) fn of(&self, appends: &[Append]) -> Option<HashMap<AccountId, Account>> {
        let known = |append: &Append| Some((append.account, self.0.get(&append.account)?.account.clone()));
        appends.iter().map(known).collect()
    }

    /// One of them.
    pub(super) fn get(&self, id: AccountId) -> Option<&Seen> {
        self.0.get(&id)
    }

    /// Accounts as a transaction left them that is committed.
    pub(super) fn left(&mut self, accounts: impl IntoIterator<Item = Seen>) {
        for seen in accounts {
            if self.0.len() >= MOST && !self.0.contains_key(&seen.account.id) {
                self.0.clear();
            }
            self.0.insert(seen.account.id, seen);
        }
    }

    /// Lets go of those that these appends are for.
    pub(super) fn forget(&mut self, appends: &[Append]) {
        for append in appends {
            self.0.remove(&append.account);
        }
    }
}
