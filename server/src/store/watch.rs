//! What an operator hears about an account that nobody asked about: that it fell silent, runs out of room, or is leaving.
//! No SQL, no I/O.

use super::{Account, RemovalBy, Terms};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
    quota::{Quota, QuotaLevel},
};

const HOUR_MS: u64 = 60 * 60 * 1000;
/// A silence shorter than this means nothing: blocks can be that far apart, and each of them makes a record.
const QUIET_MS: u64 = 2 * HOUR_MS;
/// A silence is unusual once it is so many times the longest recent one.
const UNUSUAL: u64 = 3;
/// In this time the longest recent silence fades away.
const FADE_MS: u64 = 14 * 24 * HOUR_MS;

/// What was said about an account last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// When it was called silent.
    pub silent_at: Option<UnixMillis>,
    /// The rung of its quota: 0 within, 1 near, 2 overdraft, 3 exhausted.
    pub quota: u64,
    /// For when its removal was announced.
    pub removal_at: Option<UnixMillis>,
}

/// One thing to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No record for longer than is usual.
    Silent {
        /// When the last one came.
        since: UnixMillis,
    },
    /// A rung of the quota's ladder was reached from below.
    Quota(Quota),
    /// A removal was asked for.
    RemovalAsked {
        /// When it begins.
        at: UnixMillis,
        /// Who asked.
        by: RemovalBy,
    },
    /// And was taken back.
    RemovalUndone,
}

/// How an account is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Whose it is.
    pub node: NodeId,
    /// On which network.
    pub network: Network,
    /// No record for longer than is usual.
    pub silent: bool,
    /// How far its use has come.
    pub level: QuotaLevel,
    /// Whether it is to be removed.
    pub leaving: bool,
    /// What was not said before.
    pub notices: Vec<Notice>,
}

/// The longest recent silence, after one more: the fades of what was before against what has just ended.
#[must_use]
pub(super) fn rhythm(before: u64, silence: u64) -> u64 {
    let faded = u128::from(before) * u128::from(FADE_MS.saturating_sub(silence)) / u128::from(FADE_MS);
    silence.max(u64::try_from(faded).unwrap_or(u64::MAX))
}

impl Account {
    /// Whether the last record is older than the node's own rhythm, or than the terms' limit. An account that never wrote
    /// is not silent: it was never heard.
    #[must_use]
    pub fn silent_since(&self, terms: &Terms, now: UnixMillis) -> Option<UnixMillis> {
        let last = self.head_received_at?;
        let limit = u64::try_from(terms.silent_after.as_millis()).unwrap_or(u64::MAX);
        let usual = self.rhythm_ms.saturating_mul(UNUSUAL).max(QUIET_MS);
        (now.millis_since(last) > usual.min(limit)).then_some(last)
    }

    /// Looks at the account, and takes down in `told` what is said now.
    pub fn watch(&mut self, terms: &Terms, now: UnixMillis) -> Watched {
        let mut notices = Vec::new();
        let silent = self.silent_since(terms, now);
        if let Some(since) = silent
            && self.told.silent_at.is_none_or(|told| told < since)
        {
            self.told.silent_at = Some(now);
            notices.push(Notice::Silent { since });
        }
        let quota = self.quota_state(terms);
        let level = quota.map_or(QuotaLevel::Within, |quota| quota.level);
        let rung = match level {
            QuotaLevel::Near => 1,
            QuotaLevel::Overdraft => 2,
            QuotaLevel::Exhausted => 3,
            _ => 0,
        };
        if rung > self.told.quota {
            notices.extend(quota.map(Notice::Quota));
        }
        self.told.quota = rung;
        if self.told.removal_at != self.removal_at() {
            notices.push(match self.removal {
                Some(removal) => Notice::RemovalAsked {
                    at: removal.at,
                    by: removal.by,
                },
                None => Notice::RemovalUndone,
            });
            self.told.removal_at = self.removal_at();
        }
        Watched {
            node: self.node,
            network: self.network,
            silent: silent.is_some(),
            level,
            leaving: self.removal.is_some(),
            notices,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AccountId, QuotaPolicy, Removing};

    const LAST: UnixMillis = UnixMillis(1000 * HOUR_MS);

    fn account() -> Account {
        let mut account = Account::new(AccountId(1), NodeId([2; 33]), Network::Regtest);
        account.head_received_at = Some(LAST);
        account
    }

    fn hours(hours: u64) -> UnixMillis {
        UnixMillis(LAST.0 + hours * HOUR_MS)
    }

    #[test]
    fn a_node_is_silent_by_its_own_rhythm_and_by_the_limit_at_the_latest() {
        let mut account = account();
        let terms = Terms::default();
        assert_eq!(account.silent_since(&terms, hours(2)), None);
        assert_eq!(account.silent_since(&terms, hours(3)), Some(LAST));
        account.rhythm_ms = 5 * HOUR_MS;
        assert_eq!(account.silent_since(&terms, hours(15)), None);
        assert_eq!(account.silent_since(&terms, hours(16)), Some(LAST));
        account.rhythm_ms = 90 * HOUR_MS;
        assert_eq!(account.silent_since(&terms, hours(24)), None);
        assert_eq!(account.silent_since(&terms, hours(25)), Some(LAST));
        account.head_received_at = None;
        assert_eq!(account.silent_since(&terms, hours(999)), None);
    }

    #[test]
    fn the_rhythm_is_the_longest_recent_silence_and_fades() {
        assert_eq!(rhythm(0, 7), 7);
        assert_eq!(rhythm(1000, FADE_MS / 2), FADE_MS / 2);
        assert_eq!(rhythm(HOUR_MS, 0), HOUR_MS);
        let after = rhythm(10 * HOUR_MS, HOUR_MS);
        assert!(after < 10 * HOUR_MS && after > 9 * HOUR_MS);
        assert_eq!(rhythm(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn each_thing_is_said_once_and_again_when_it_happens_again() {
        let terms = Terms {
            quota: QuotaPolicy {
                bytes: Some(1000),
                ..QuotaPolicy::default()
            },
            ..Terms::default()
        };
        let mut account = account();
        let said = |account: &mut Account, at| account.watch(&terms, hours(at)).notices;
        assert_eq!(said(&mut account, 1), []);
        assert_eq!(said(&mut account, 30), [Notice::Silent { since: LAST }]);
        assert_eq!(said(&mut account, 31), []);
        account.head_received_at = Some(hours(32));
        assert_eq!(said(&mut account, 33), []);
        assert_eq!(said(&mut account, 90).len(), 1);
        account.head_received_at = Some(hours(90));
        for (used, notices) in [
            (799, 0),
            (800, 1),
            (900, 0),
            (1001, 1),
            (1300, 1),
            (1100, 0),
            (0, 0),
            (800, 1),
        ] {
            account.kept_bytes = used;
            assert_eq!(said(&mut account, 90).len(), notices, "{used}");
        }
        let removal = Removing {
            at: hours(99),
            by: RemovalBy::Owner,
        };
        account.removal = Some(removal);
        let asked = Notice::RemovalAsked {
            at: hours(99),
            by: RemovalBy::Owner,
        };
        assert_eq!(said(&mut account, 90), [asked]);
        assert_eq!(said(&mut account, 90), []);
        account.removal = None;
        assert_eq!(said(&mut account, 90), [Notice::RemovalUndone]);
        assert_eq!(said(&mut account, 90), []);
    }
}
