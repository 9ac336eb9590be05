//! What becomes of an account that runs out of room (I13): it is warned, its history yields to its minimum, older
//! snapshots follow, then an overdraft is used, and only then is a record refused. No SQL, no I/O.

use super::{HistoryPolicy, Refusal};
use backstop_protocol::quota::{Quota, QuotaLevel};

/// How much room accounts have that have no quota of their own, and where the rungs of every account's ladder stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaPolicy {
    /// Bytes; without one, the disk decides.
    pub bytes: Option<u64>,
    /// From so many percent of its quota on a node is warned, and asked for roll-ups early. At most 100.
    pub warn_percent: u64,
    /// So many percent beyond its quota a node may use before records are refused.
    pub overdraft_percent: u64,
}

impl Default for QuotaPolicy {
    /// No quota; where a node has one, a warning at 80 % and an overdraft of 20 %.
    fn default() -> Self {
        Self {
            bytes: None,
            warn_percent: 80,
            overdraft_percent: 20,
        }
    }
}

/// A quota of an account's own that is none: it may use what the disk has.
pub const UNLIMITED: u64 = i64::MAX as u64;

/// What is about to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A record, or the commit of a snapshot: what is refused last.
    Record,
    /// A pack, or files. They leave the last part of the overdraft to records.
    Other,
}

/// The rungs of one account: at how many bytes of use each is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// The node is warned, and asked for roll-ups early.
    pub near: u64,
    /// History yields to its minimum.
    pub history: u64,
    /// Older snapshots yield, whatever their number.
    pub snapshots: u64,
    /// The quota; above it, alarms on both sides.
    pub quota: u64,
    /// Beyond this, packs and files are refused.
    pub packs: u64,
    /// Beyond this, records are refused.
    pub most: u64,
}

impl QuotaPolicy {
    /// The ladder of an account that has a quota of its own, or none; `None` where its use has no bounds.
    #[must_use]
    pub fn ladder(&self, own: Option<u64>) -> Option<Ladder> {
        let quota = own.or(self.bytes).filter(|quota| *quota < UNLIMITED)?;
        let percent = |percent: u64| {
            let bytes = u128::from(quota) * u128::from(percent) / 100;
            u64::try_from(bytes).unwrap_or(u64::MAX).min(UNLIMITED)
        };
        let warn = self.warn_percent.min(100);
        Some(Ladder {
            near: percent(warn),
            history: percent(warn.midpoint(100)),
            snapshots: percent(warn.midpoint(100).midpoint(100)),
            quota,
            packs: percent(self.overdraft_percent.saturating_add(200) / 2).max(quota),
            most: percent(self.overdraft_percent.saturating_add(100)).max(quota),
        })
    }
}

impl Ladder {
    /// How far a use has come.
    #[must_use]
    pub fn level(&self, used: u64) -> QuotaLevel {
        match used {
            used if used >= self.most => QuotaLevel::Exhausted,
            used if used > self.quota => QuotaLevel::Overdraft,
            used if used >= self.near => QuotaLevel::Near,
            _ => QuotaLevel::Within,
        }
    }

    /// What a client is told.
    #[must_use]
    pub fn quota(&self, used: u64) -> Quota {
        Quota {
            bytes: self.quota,
            used,
            packs: self.packs,
            most: self.most,
            level: self.level(used),
        }
    }

    /// How much history is kept at this use. What I8 promises is in every policy.
    #[must_use]
    pub fn history(&self, policy: &HistoryPolicy, used: u64) -> HistoryPolicy {
        HistoryPolicy {
            days: if used >= self.history { 0 } else { policy.days },
            snapshots: if used >= self.snapshots {
                1
            } else {
                policy.snapshots
            },
        }
    }

    /// Whether so many bytes more are taken.
    pub fn take(&self, used: u64, bytes: u64, load: Load) -> Result<(), Refusal> {
        let most = match load {
            Load::Record => self.most,
            Load::Other => self.packs,
        };
        if used.saturating_add(bytes) <= most {
            Ok(())
        } else {
            let quota = self.quota(used);
            Err(Refusal::QuotaExceeded { quota, bytes })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use QuotaLevel::{Exhausted, Near, Overdraft, Within};
    use proptest::prelude::*;

    const POLICY: QuotaPolicy = QuotaPolicy {
        bytes: Some(1000),
        warn_percent: 80,
        overdraft_percent: 20,
    };

    const HISTORY: HistoryPolicy = HistoryPolicy {
        snapshots: 3,
        days: 7,
    };

    #[test]
    fn the_rungs_stand_in_the_order_in_which_things_yield() {
        let ladder = POLICY.ladder(None).unwrap();
        let Ladder {
            near,
            history,
            snapshots,
            quota,
            packs,
            most,
        } = ladder;
        assert_eq!(
            [near, history, snapshots, quota, packs, most],
            [800, 900, 950, 1000, 1100, 1200]
        );
        let levels = [799, 800, 1000, 1001, 1199, 1200].map(|used| ladder.level(used));
        assert_eq!(levels, [Within, Near, Near, Overdraft, Overdraft, Exhausted]);
    }

    #[test]
    fn history_yields_before_snapshots_and_neither_before_it_must() {
        let ladder = POLICY.ladder(None).unwrap();
        let at = |used| {
            let HistoryPolicy { snapshots, days } = ladder.history(&HISTORY, used);
            (snapshots, days)
        };
        assert_eq!([899, 900, 949, 950].map(at), [(3, 7), (3, 0), (3, 0), (1, 0)]);
    }

    #[test]
    fn a_quota_of_its_own_goes_before_the_servers_and_may_be_none() {
        assert_eq!(POLICY.ladder(Some(50)).unwrap().quota, 50);
        assert_eq!(POLICY.ladder(Some(UNLIMITED)), None);
        assert_eq!(QuotaPolicy::default().ladder(None), None);
        assert_eq!(QuotaPolicy::default().ladder(Some(7)).unwrap().quota, 7);
    }

    proptest! {
        #[test]
        fn whatever_is_configured_records_are_refused_last_and_nothing_below_the_quota(
            quota in 0_u64..=UNLIMITED, warn in 0_u64..200, overdraft in any::<u64>(),
            used in 0_u64..=UNLIMITED, bytes in any::<u64>(),
        ) {
            let policy = QuotaPolicy { bytes: None, warn_percent: warn, overdraft_percent: overdraft };
            let Some(ladder) = policy.ladder(Some(quota)) else {
                prop_assert_eq!(quota, UNLIMITED);
                return Ok(());
            };
            let Ladder { near, history, snapshots, quota, packs, most } = ladder;
            let rungs = [near, history, snapshots, quota, packs, most];
            prop_assert!(rungs.is_sorted(), "{:?}", rungs);
            let (record, other) = (ladder.take(used, bytes, Load::Record), ladder.take(used, bytes, Load::Other));
            prop_assert!(other.is_err() || record.is_ok());
            if used.saturating_add(bytes) <= quota {
                prop_assert!(other.is_ok());
            }
            if record.is_err() {
                // All that can yield has been asked to by then, or what comes is larger than what is left.
                prop_assert!(used >= snapshots || bytes > most - used);
            }
        }
    }
}
