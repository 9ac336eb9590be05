//! On what terms a server keeps accounts.

use super::{HistoryPolicy, QuotaPolicy, Registration, RollUpPolicy};
use std::time::Duration;

/// On what terms a server keeps accounts. A store judges by them inside its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When a new snapshot is asked for.
    pub roll_up: RollUpPolicy,
    /// How much room accounts have.
    pub quota: QuotaPolicy,
    /// Whom the server takes in.
    pub registration: Registration,
    /// How long after it was asked for a removal begins; so long it can be taken back.
    pub removal_delay: Duration,
    /// After how long without a record every node counts as silent, whatever its own rhythm.
    pub silent_after: Duration,
}

impl Default for Terms {
    /// The defaults of each; removals begin after 7 days, a node is silent after one.
    fn default() -> Self {
        Self {
            roll_up: RollUpPolicy::default(),
            quota: QuotaPolicy::default(),
            registration: Registration::default(),
            removal_delay: Duration::from_hours(7 * 24),
            silent_after: Duration::from_hours(24),
        }
    }
}

impl Terms {
    /// How much history an account keeps at its use.
    #[must_use]
    pub fn history(&self, policy: &HistoryPolicy, quota: Option<u64>, used: u64) -> HistoryPolicy {
        match self.quota.ladder(quota) {
            Some(ladder) => ladder.history(policy, used),
            None => policy.clone(),
        }
    }
}
