//! Amounts as a person says them: times, distances, sizes.

use backstop_protocol::clock::UnixMillis;

/// How long ago, or in how long, as a person says it.
pub(crate) fn distance(a: UnixMillis, b: UnixMillis) -> String {
    match a.0.abs_diff(b.0) / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Bytes as a person says them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (u128::from(bytes) * 10, 0);
    while value >= 10_240 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{}.{} {name}", value / 10, value % 10)
    }
}

/// A time of UTC, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    pub(crate) fn of(at: UnixMillis) -> Self {
        let (days, seconds) = (at.as_secs() / 86_400, at.as_secs() % 86_400);
        // Years are counted from March on, so that a leap day is the last of its year; 1970 began 719,468 days after the
        // first March of year 0.
        let days = days.saturating_add(719_468);
        let (era, of_era) = (days / 146_097, days % 146_097);
        let of_era_year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * of_era_year + of_era_year / 4 - of_era_year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Self {
            year: of_era_year + era * 400 + u64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// As programs read it: `2026-11-27T09:30:00Z`.
    pub(crate) fn iso(self) -> String {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// To the minute, as people read it.
    pub(crate) fn minute(self) -> String {
        format!("{} {} UTC", self.day(), self.clock())
    }

    pub(crate) fn day(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    pub(crate) fn clock(self) -> String {
        format!("{:02}:{:02}", self.hour, self.minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_said_in_few_digits() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 30, "1.0 GiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
        assert!(size(u64::MAX).ends_with(" TiB"));
        let at = UnixMillis;
        assert_eq!(distance(at(5), at(90_005)), "90 s");
        assert_eq!(distance(at(7 * 86_400_000), at(0)), "7 days");
    }

    #[test]
    fn a_date_is_that_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_771_845, "2026-11-27T09:30:45Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Date::of(UnixMillis(seconds * 1000)).iso(), want);
        }
        let date = Date::of(UnixMillis(1_795_771_845_000));
        assert_eq!(date.minute(), "2026-11-27 09:30 UTC");
        // No number makes it panic.
        Date::of(UnixMillis(u64::MAX)).iso();
    }
}
