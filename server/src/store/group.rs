//! A group of appends that commit together, judged in order. No SQL: a database lends its log.

use super::{Account, AccountId, Append, Load, Refusal, StoreError, Terms};
use backstop_protocol::{api::Appended, record::Placement};
use std::collections::{HashMap, HashSet};

/// Most appends that commit together.
pub(super) const GROUP_MAX: usize = 512;
/// After how many bytes a group takes no more.
pub(super) const GROUP_BYTES: usize = 32 << 20;

/// What becomes of one append of a group: success, or a refusal that concerns it alone.
pub(super) type Outcome = Result<Appended, Refusal>;

/// The logs in a database, inside one transaction.
pub(super) trait Log {
    /// Writes records alone.
    async fn write(&mut self, records: &[&Append]) -> Result<(), StoreError>;

    /// Whether the log holds these very bytes at their seq (I4).
    async fn holds(&mut self, append: &Append) -> Result<bool, StoreError>;

    /// Whether the log holds the record that this one names as the one before it.
    async fn holds_before(&mut self, append: &Append) -> Result<bool, StoreError>;

    /// Moves everything from the record's seq on aside (I3), the head being the last of it; returns its length. A snapshot that rests
    /// on any of it is on no chain any more, and the account's tail is what remains.
    async fn set_aside(&mut self, account: &mut Account, append: &Append) -> Result<u64, StoreError>;
}

/// A group under way.
pub(super) struct Group<'a> {
    /// Each read once and written once.
    pub(super) accounts: HashMap<AccountId, Account>,
    changed: HashSet<AccountId>,
    /// Records that were found good and are not written yet.
    pub(super) waiting: Vec<&'a Append>,
    judged: Vec<(&'a Append, Result<(), Refusal>)>,
    terms: &'a Terms,
}

impl<'a> Group<'a> {
    /// Over accounts that nobody else changes until the transaction ends.
    pub(super) fn new(accounts: HashMap<AccountId, Account>, terms: &'a Terms) -> Self {
        Self {
            accounts,
            changed: HashSet::new(),
            waiting: Vec::new(),
            judged: Vec::new(),
            terms,
        }
    }

    /// Judges an append against the account as the ones before it in the group left it. A refused one changes nothing.
    pub(super) async fn judge(&mut self, log: &mut impl Log, append: &'a Append) -> Result<(), StoreError> {
        if !self.judge_alone(append) {
            let outcome = self.ask(log, append).await?;
            self.judged.push((append, outcome));
        }
        Ok(())
    }

    /// Judges an append for which its account tells enough, as it does for all but a few; false where the log must be asked,
    /// and where the account is not here.
    pub(super) fn judge_alone(&mut self, append: &'a Append) -> bool {
        let Some(account) = self.accounts.get_mut(&append.account) else {
            return false;
        };
        let outcome = match account.place(append) {
            Ok(Placement::Refused | Placement::Replaces) => return false,
            Ok(Placement::Same) => Ok(()),
            // The last thing that a quota refuses (I13), and never what is there already.
            Ok(Placement::Next) => account
                .take(append.sealed.len(), Load::Record, self.terms)
                .map(|()| {
                    account.advance(append, 0);
                    self.waiting.push(append);
                    self.changed.insert(append.account);
                }),
            Err(refusal) => Err(refusal),
        };
        self.judged.push((append, outcome));
        true
    }

    /// What becomes of an append that is not simply the next, or the last one again.
    async fn ask(
        &mut self,
        log: &mut impl Log,
        append: &'a Append,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let Some(account) = self.accounts.get_mut(&append.account) else {
            return Ok(Err(Refusal::NotFound));
        };
        let is_rival = matches!(account.place(append), Ok(Placement::Replaces));
        // The log in the database must be the one against which this one is judged.
        if !self.waiting.is_empty() {
            log.write(&self.waiting).await?;
            self.waiting.clear();
        }
        if !is_rival {
            if log.holds(append).await? {
                return Ok(Ok(()));
            }
            // A branch that never counted gives way to what the writer copies from other servers.
            if !account.may_fork(append) || !log.holds_before(append).await? {
                return Ok(Err(account.not_next()));
            }
        }
        if let Err(refusal) = account.take(append.sealed.len(), Load::Record, self.terms) {
            return Ok(Err(refusal));
        }
        let replaced = log.set_aside(account, append).await?;
        account.advance(append, replaced);
        self.waiting.push(append);
        self.changed.insert(append.account);
        Ok(Ok(()))
    }

    /// The accounts that differ from what the database has.
    pub(super) fn changed(&self) -> Vec<&Account> {
        self.changed
            .iter()
            .filter_map(|id| self.accounts.get(id))
            .collect()
    }

    /// The accounts as the group leaves them.
    pub(super) fn into_accounts(self) -> HashMap<AccountId, Account> {
        self.accounts
    }

    /// What became of each, in their order: every success answers with the head as the transaction left it.
    pub(super) fn outcomes(&mut self) -> Vec<Outcome> {
        let judged = std::mem::take(&mut self.judged);
        let with_head = |(append, outcome): (&Append, Result<(), Refusal>)| {
            outcome.and_then(|()| {
                let account = self.accounts.get(&append.account).ok_or(Refusal::NotFound)?;
                Ok(account.appended(self.terms, append.now))
            })
        };
        judged.into_iter().map(with_head).collect()
    }
}
