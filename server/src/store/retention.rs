//! What of a history stays (I8). No SQL, no I/O.

use backstop_protocol::clock::UnixMillis;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How long whatever was in use stays, at least: superseded snapshots, packs that nothing needs any more. Whatever is
/// configured, milliseconds.
pub const GRACE_MS: u64 = DAY_MS;

/// How much history is kept; both are *at least*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// So many of the newest snapshots on the chain stay, whatever their age. The newest always does.
    pub snapshots: usize,
    /// For so many days after a newer one was committed a snapshot stays. One day at least.
    pub days: u32,
}

impl Default for HistoryPolicy {
    /// 3 snapshots, 7 days.
    fn default() -> Self {
        Self {
            snapshots: 3,
            days: 7,
        }
    }
}

impl HistoryPolicy {
    /// How long what was superseded stays, milliseconds.
    #[must_use]
    pub fn keep_ms(&self) -> u64 {
        u64::from(self.days).saturating_mul(DAY_MS).max(GRACE_MS)
    }

    /// Whether what was superseded at `then` may go. A clock that went backwards keeps it.
    #[must_use]
    pub fn is_over(&self, then: UnixMillis, now: UnixMillis) -> bool {
        now.millis_since(then) > self.keep_ms()
    }

    /// Judges an account's snapshots, which are given in the order in which they are listed: the highest base first,
    /// of equal ones the latest first; those that are off the chain among them. One that rests on the head supersedes
    /// nothing yet: where the head is replaced (I3), the one before it must still be there, with its log.
    #[must_use]
    pub fn judge(&self, snapshots: &[Aged], head_seq: u64, now: UnixMillis) -> Verdict {
        let mut go = Vec::new();
        let mut records_from = 0;
        let mut rank = 0;
        let mut newer_since: Option<UnixMillis> = None;
        let mut off_chain = Vec::new();
        for snapshot in snapshots {
            if let Some(at) = snapshot.off_chain_at {
                if self.is_over(at, now) {
                    go.push(snapshot.key);
                } else {
                    off_chain.push(snapshot.base_seq);
                }
                continue;
            }
            if snapshot.base_seq >= head_seq {
                continue;
            }
            // One that is committed below another is superseded from its first moment.
            let superseded = newer_since.map(|since| since.max(snapshot.committed_at));
            let old = superseded.is_some_and(|at| self.is_over(at, now));
            if old && rank >= self.snapshots {
                go.push(snapshot.key);
            } else {
                // What came before an account's first snapshot is superseded by that one, and stays as long.
                let over = self.is_over(snapshot.committed_at, now);
                records_from = if over { snapshot.base_seq } else { 0 };
            }
            rank += 1;
            let since = newer_since.map_or(snapshot.committed_at, |since| since.min(snapshot.committed_at));
            newer_since = Some(since);
        }
        let lowest = off_chain.into_iter().min().unwrap_or(u64::MAX);
        Verdict {
            go,
            records_from: records_from.min(lowest),
        }
    }
}

/// What decides about a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aged {
    /// Its name among the account's.
    pub key: i64,
    /// The record whose state it holds.
    pub base_seq: u64,
    /// When it was committed.
    pub committed_at: UnixMillis,
    /// When its base was replaced.
    pub off_chain_at: Option<UnixMillis>,
}

/// What may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Snapshots that go.
    pub go: Vec<i64>,
    /// Records below this one go; 0 where all stay. It is the base of a snapshot that stays, so that the log still
    /// proves the base's hash.
    pub records_from: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: HistoryPolicy = HistoryPolicy {
        snapshots: 2,
        days: 3,
    };

    /// Above all bases.
    const HEAD: u64 = 100;

    fn days(days: u64) -> UnixMillis {
        UnixMillis(days * DAY_MS)
    }

    fn aged(key: i64, base_seq: u64, committed: u64) -> Aged {
        Aged {
            key,
            base_seq,
            committed_at: days(committed),
            off_chain_at: None,
        }
    }

    fn just_after(day: u64) -> UnixMillis {
        UnixMillis(days(day).0 + 1)
    }

    #[test]
    fn a_snapshot_goes_when_it_is_neither_among_the_newest_nor_young() {
        let snapshots = [aged(3, 30, 12), aged(2, 20, 11), aged(1, 10, 10)];
        let at = |now| POLICY.judge(&snapshots, HEAD, now);
        // 1 was superseded on day 11, so that it stays until day 14 is over.
        assert_eq!(at(days(14)).go, [0; 0]);
        let later = at(just_after(14));
        assert_eq!((later.go, later.records_from), (vec![1], 20));
        // The two newest stay for good.
        assert_eq!(at(days(1000)).go, [1]);
    }

    #[test]
    fn nothing_goes_before_a_day_is_over_however_little_is_configured() {
        let least = HistoryPolicy {
            snapshots: 0,
            days: 0,
        };
        let snapshots = [aged(2, 20, 11), aged(1, 10, 1)];
        assert_eq!(least.judge(&snapshots, HEAD, days(12)).go, [0; 0]);
        let later = least.judge(&snapshots, HEAD, just_after(12));
        assert_eq!((later.go, later.records_from), (vec![1], 20));
        assert_eq!(least.judge(&[aged(2, 20, 11)], HEAD, days(99)).go, [0; 0]);
    }

    #[test]
    fn the_log_below_the_first_snapshot_stays_as_long_as_a_snapshot_would() {
        let first = [aged(1, 10, 10)];
        assert_eq!(POLICY.judge(&first, HEAD, days(13)).records_from, 0);
        assert_eq!(POLICY.judge(&first, HEAD, just_after(13)).records_from, 10);
        assert_eq!(POLICY.judge(&[], HEAD, days(99)).records_from, 0);
    }

    #[test]
    fn a_snapshot_off_the_chain_stays_as_long_and_counts_for_nothing_among_the_newest() {
        let off = Aged {
            off_chain_at: Some(days(12)),
            ..aged(9, 5, 11)
        };
        let snapshots = [aged(3, 30, 11), aged(2, 20, 11), off];
        let young = POLICY.judge(&snapshots, HEAD, days(15));
        assert_eq!((young.go, young.records_from), (vec![], 5));
        let old = POLICY.judge(&snapshots, HEAD, just_after(15));
        assert_eq!((old.go, old.records_from), (vec![9], 20));
    }

    #[test]
    fn a_snapshot_that_rests_on_the_head_supersedes_nothing_yet() {
        let least = HistoryPolicy {
            snapshots: 1,
            days: 0,
        };
        let snapshots = [aged(2, 20, 11), aged(1, 10, 1)];
        let at = |head| least.judge(&snapshots, head, days(99));
        assert_eq!((at(20).go, at(20).records_from), (vec![], 10));
        assert_eq!((at(21).go, at(21).records_from), (vec![1], 20));
        assert_eq!(least.judge(&snapshots[..1], 20, days(99)).records_from, 0);
    }

    proptest! {
        #[test]
        fn the_newest_stays_and_what_goes_was_superseded_long_ago(
            mut committed in proptest::collection::vec(0_u64..40, 1..12),
            keep in 0_usize..5, at_least in 0_u32..9, now in 0_u64..60,
        ) {
            committed.sort_unstable();
            let mut snapshots: Vec<_> = (0_i64..).zip(&committed)
                .map(|(key, day)| aged(key, key.unsigned_abs() + 1, *day)).collect();
            snapshots.reverse();
            let policy = HistoryPolicy { snapshots: keep, days: at_least };
            let verdict = policy.judge(&snapshots, HEAD, days(now));
            for (rank, snapshot) in snapshots.iter().enumerate() {
                let gone = verdict.go.contains(&snapshot.key);
                prop_assert!(!gone || rank >= keep.max(1));
                if gone {
                    let superseded = snapshots[rank - 1].committed_at;
                    prop_assert!(days(now).millis_since(superseded) > u64::from(at_least.max(1)) * DAY_MS);
                } else {
                    prop_assert!(verdict.records_from <= snapshot.base_seq);
                }
            }
        }
    }
}
