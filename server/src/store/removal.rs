//! How an account leaves: asked for, taken back or not, then gone. No SQL, no I/O.

use super::{Account, Refusal, Terms};
use backstop_protocol::{
    api::REMOVAL_FRESH_MS,
    clock::UnixMillis,
    id::{Network, NodeId},
    removal::{RemovalWord, Wish},
};
use std::fmt;

/// Who asked for a removal. Each takes back only what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalBy {
    /// Whoever runs the server.
    Operator,
    /// Whoever has the node's key.
    Owner,
}

impl RemovalBy {
    /// The word that is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for RemovalBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A removal that was asked for. Until it begins the account is as it was, and may be written to: an operator's mistake
/// stops no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removing {
    /// When it begins.
    pub at: UnixMillis,
    /// Who asked.
    pub by: RemovalBy,
}

/// How far the removal of an account has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It stays, at least for now.
    No,
    /// Some of it is gone; there is more.
    Going,
    /// All that is left are packs, which are marked for removal.
    Packs,
    /// Nothing of it is left.
    Gone {
        /// Whose it was.
        node: NodeId,
        /// On which network.
        network: Network,
    },
}

impl Account {
    /// When the account's removal begins.
    #[must_use]
    pub fn removal_at(&self) -> Option<UnixMillis> {
        self.removal.map(|removal| removal.at)
    }

    /// Asks for the account's removal. What was asked for before stays as it is.
    pub fn ask_removal(&mut self, by: RemovalBy, at: UnixMillis) -> Result<(), Refusal> {
        if self.going {
            return Err(Refusal::NotFound);
        }
        self.removal.get_or_insert(Removing { at, by });
        Ok(())
    }

    /// Takes a removal back.
    pub fn keep(&mut self, by: RemovalBy) -> Result<(), Refusal> {
        if self.going {
            return Err(Refusal::NotFound);
        }
        if by == RemovalBy::Owner && self.removal.is_some_and(|removal| removal.by != by) {
            return Err(Refusal::BadRemoval(
                "the server's operator asked for the removal; only the operator takes it back",
            ));
        }
        self.removal = None;
        Ok(())
    }

    /// Hears the owner's own word, whose signature was checked. It must be fresh, and later than the one before, so that nobody
    /// can use it again; the same word again succeeds and changes nothing.
    pub fn hear_owner(&mut self, word: &RemovalWord, terms: &Terms, now: UnixMillis) -> Result<(), Refusal> {
        if (word.node, word.network) != (self.node, self.network) {
            return Err(Refusal::BadRemoval("it speaks of another node or network"));
        }
        if self.removal_word_at == Some(word.asked_at) {
            let stands = self.removal.is_some() == (word.wish == Wish::Remove);
            return if stands {
                Ok(())
            } else {
                Err(Refusal::BadRemoval(
                    "it was heard before, and something else was asked for since",
                ))
            };
        }
        if word.asked_at.0.abs_diff(now.0) > REMOVAL_FRESH_MS {
            return Err(Refusal::BadRemoval(
                "it was not asked for just now by the server's clock; compare the clocks of both machines",
            ));
        }
        if self.removal_word_at.is_some_and(|last| word.asked_at < last) {
            return Err(Refusal::BadRemoval("a later word was heard already"));
        }
        match word.wish {
            Wish::Remove => {
                let delay = u64::try_from(terms.removal_delay.as_millis()).unwrap_or(u64::MAX);
                self.ask_removal(RemovalBy::Owner, UnixMillis(now.0.saturating_add(delay)))?;
            }
            Wish::Keep => self.keep(RemovalBy::Owner)?,
        }
        self.removal_word_at = Some(word.asked_at);
        Ok(())
    }

    /// Whether its removal is due, or has begun.
    #[must_use]
    pub fn is_leaving(&self, now: UnixMillis) -> bool {
        self.going || self.removal.is_some_and(|removal| removal.at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AccountId;
    use backstop_protocol::id::ServerKey;

    const NOW: UnixMillis = UnixMillis(1_000_000_000);

    fn account() -> Account {
        Account::new(AccountId(1), NodeId([2; 33]), Network::Regtest)
    }

    fn word(wish: Wish, asked_at: u64) -> RemovalWord {
        RemovalWord {
            wish,
            node: NodeId([2; 33]),
            network: Network::Regtest,
            server: ServerKey([3; 32]),
            asked_at: UnixMillis(asked_at),
        }
    }

    fn hear(account: &mut Account, wish: Wish, asked_at: u64) -> Result<(), Refusal> {
        account.hear_owner(&word(wish, asked_at), &Terms::default(), NOW)
    }

    fn refused(outcome: &Result<(), Refusal>) -> bool {
        matches!(outcome, Err(Refusal::BadRemoval(_)))
    }

    #[test]
    fn the_owners_word_counts_once_in_ascending_order_and_while_it_is_fresh() {
        let mut account = account();
        let (old, ahead) = (NOW.0 - REMOVAL_FRESH_MS - 1, NOW.0 + REMOVAL_FRESH_MS + 1);
        assert!(refused(&hear(&mut account, Wish::Remove, old)));
        assert!(refused(&hear(&mut account, Wish::Remove, ahead)));
        assert_eq!(account.removal, None);
        hear(&mut account, Wish::Remove, NOW.0).unwrap();
        let week = 7 * 24 * 60 * 60 * 1000;
        assert_eq!(account.removal_at(), Some(UnixMillis(NOW.0 + week)));
        hear(&mut account, Wish::Remove, NOW.0).unwrap();
        hear(&mut account, Wish::Keep, NOW.0 + 5).unwrap();
        assert_eq!(account.removal, None);
        // Whoever saw the first word cannot use it against the second.
        assert!(refused(&hear(&mut account, Wish::Remove, NOW.0)));
        assert!(refused(&hear(&mut account, Wish::Remove, NOW.0 + 5)));
        assert_eq!(account.removal, None);
    }

    #[test]
    fn the_word_of_another_account_is_refused() {
        let mut account = account();
        let other = RemovalWord {
            network: Network::Bitcoin,
            ..word(Wish::Remove, NOW.0)
        };
        assert!(refused(&account.hear_owner(&other, &Terms::default(), NOW)));
    }

    #[test]
    fn the_owner_does_not_take_back_what_the_operator_asked_for() {
        let mut account = account();
        account.ask_removal(RemovalBy::Operator, UnixMillis(5)).unwrap();
        assert!(refused(&hear(&mut account, Wish::Keep, NOW.0)));
        account.keep(RemovalBy::Operator).unwrap();
        hear(&mut account, Wish::Remove, NOW.0).unwrap();
        account.keep(RemovalBy::Operator).unwrap();
        assert_eq!(account.removal, None);
    }

    #[test]
    fn nothing_takes_back_a_removal_that_has_begun() {
        let mut account = account();
        account.ask_removal(RemovalBy::Owner, NOW).unwrap();
        assert!(account.is_leaving(NOW) && !account.is_leaving(UnixMillis(NOW.0 - 1)));
        account.going = true;
        assert_eq!(account.keep(RemovalBy::Operator), Err(Refusal::NotFound));
        assert_eq!(hear(&mut account, Wish::Keep, NOW.0), Err(Refusal::NotFound));
    }
}
