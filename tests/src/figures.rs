//! Numbers for people: quantiles, sizes, times.

use std::time::Duration;

/// A sample of times, sorted.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

impl Times {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value that `percent` of a hundred do not exceed; zero where there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0.get(rank).copied().unwrap_or_default()
    }

    /// Half of them are faster.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

/// A time in the unit that suits it.
pub fn time(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} \u{b5}s"),
        1_000..1_000_000 => format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

/// A size in the unit that suits it.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000),
    }
}

/// How many times as much, with two digits behind the point.
pub fn ratio(a: u128, b: u128) -> String {
    if b == 0 {
        return "-".to_owned();
    }
    let hundredths = a * 100 / b;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let times: Times = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(times.median(), Duration::from_millis(50));
        assert_eq!(times.percentile(99), Duration::from_millis(99));
        assert_eq!(Times::default().median(), Duration::ZERO);
        assert_eq!(
            Times::from_iter([Duration::from_millis(7)]).percentile(99),
            Duration::from_millis(7)
        );
    }

    #[test]
    fn numbers_are_written_in_units_that_suit_them() {
        assert_eq!(time(Duration::from_micros(12_345)), "12.34 ms");
        assert_eq!(time(Duration::from_millis(61_230)), "61.23 s");
        assert_eq!(size(1_234_567), "1.23 MB");
        assert_eq!(ratio(10, 4), "2.50");
    }
}
