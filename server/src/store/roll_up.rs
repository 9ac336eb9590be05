//! When the server asks for a new snapshot. No SQL, no I/O.

use backstop_protocol::clock::UnixMillis;
use std::time::Duration;

/// When a log has become long enough for a roll-up: the first bound that is reached decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollUpPolicy {
    /// A log below this many sealed bytes is not asked for by its bytes.
    pub min_bytes: u64,
    /// Nor is one below this many percent of the newest snapshot's bytes.
    pub percent: u64,
    /// Records above the newest snapshot.
    pub records: u64,
    /// Age of the oldest record above the newest snapshot, by the server's clock.
    pub age: Duration,
}

impl Default for RollUpPolicy {
    /// 8 MiB and half of the snapshot, 100,000 records, 7 days.
    fn default() -> Self {
        Self {
            min_bytes: 8 << 20,
            percent: 50,
            records: 100_000,
            age: Duration::from_hours(7 * 24),
        }
    }
}

impl RollUpPolicy {
    /// The same, for a node that runs out of room: at a quarter of each bound, so that what is superseded can go sooner.
    #[must_use]
    pub fn early(&self) -> Self {
        Self {
            min_bytes: self.min_bytes / 4,
            percent: self.percent / 4,
            records: self.records / 4,
            age: self.age / 4,
        }
    }

    /// Whether a log with this tail is to be rolled up.
    #[must_use]
    pub fn asks(&self, tail: &Tail, now: UnixMillis) -> bool {
        let share = u128::from(tail.snapshot_bytes) * u128::from(self.percent) / 100;
        let long = u128::from(self.min_bytes).max(share);
        let age = tail.since.map_or(0, |since| now.millis_since(since));
        tail.ordered
            || tail.records > 0
                && (u128::from(tail.bytes) >= long
                    || tail.records >= self.records
                    || u128::from(age) >= self.age.as_millis())
    }
}

/// The log above the newest snapshot on the chain; the whole of it where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Sealed bytes.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// When the oldest of them arrived; `None` where there is none.
    pub since: Option<UnixMillis>,
    /// Sealed bytes of that snapshot's chunks; 0 where there is none.
    pub snapshot_bytes: u64,
    /// Whether an operator asked for a roll-up that has not come yet.
    pub ordered: bool,
}

impl Tail {
    /// One more record.
    pub fn add(&mut self, bytes: u64, now: UnixMillis) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.records = self.records.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// Takes the last record away again, because another one replaces it.
    pub fn take_back(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.records = self.records.saturating_sub(1);
        if self.records == 0 {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RollUpPolicy = RollUpPolicy {
        min_bytes: 1000,
        percent: 50,
        records: 10,
        age: Duration::from_millis(100),
    };

    fn asks(tail: Tail) -> bool {
        POLICY.asks(&tail, UnixMillis(1099))
    }

    const SHORT: Tail = Tail {
        bytes: 999,
        records: 9,
        since: Some(UnixMillis(1000)),
        snapshot_bytes: 0,
        ordered: false,
    };

    #[test]
    fn each_bound_asks_by_itself_and_none_before_it_is_reached() {
        assert!(!asks(SHORT));
        assert!(asks(Tail { bytes: 1000, ..SHORT }));
        assert!(asks(Tail { records: 10, ..SHORT }));
        let since = Some(UnixMillis(999));
        assert!(asks(Tail { since, ..SHORT }));
        assert!(asks(Tail {
            ordered: true,
            ..Tail::default()
        }));
    }

    #[test]
    fn a_large_snapshot_asks_for_a_log_of_its_share() {
        let tail = |bytes| Tail {
            bytes,
            snapshot_bytes: 4000,
            ..SHORT
        };
        assert!(!asks(tail(1999)));
        assert!(asks(tail(2000)));
        let never = RollUpPolicy {
            percent: u64::MAX,
            ..POLICY
        };
        assert!(!never.asks(&tail(u64::MAX), UnixMillis(1000)));
    }

    #[test]
    fn a_log_that_ends_in_its_snapshot_asks_for_nothing_however_small_the_bounds() {
        let eager = RollUpPolicy {
            min_bytes: 0,
            percent: 0,
            records: 0,
            age: Duration::ZERO,
        };
        assert!(!eager.asks(&Tail::default(), UnixMillis(5)));
    }

    #[test]
    fn a_record_taken_back_leaves_the_tail_as_it_was() {
        let mut tail = Tail::default();
        tail.add(500, UnixMillis(7));
        tail.add(600, UnixMillis(8));
        tail.take_back(600);
        assert_eq!(
            (tail.bytes, tail.records, tail.since),
            (500, 1, Some(UnixMillis(7)))
        );
        tail.take_back(500);
        assert_eq!(tail, Tail::default());
    }
}
