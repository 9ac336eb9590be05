//! Many measured times as two figures.

use std::time::Duration;

/// Measured values of one kind.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a time, kept as seconds.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    /// Adds a value of any unit.
    pub fn push_value(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds all of another's.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Each value and the other's of the same place together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Half of the values are at most this.
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// 99 of 100 are at most this.
    pub fn p99(&self) -> f64 {
        self.percentile(99)
    }

    /// The smallest value that at least `percent` of 100 do not exceed; 0 where there is none.
    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let mut samples = Samples::default();
        assert!(samples.median().abs() < f64::EPSILON);
        for value in (1..=200_u32).rev() {
            samples.push_value(f64::from(value));
        }
        assert!((samples.median() - 100.0).abs() < f64::EPSILON);
        assert!((samples.p99() - 198.0).abs() < f64::EPSILON);
    }
}
