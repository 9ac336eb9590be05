//! How much room an account has left, and what follows from it (I13).

use super::{Account, Load, Refusal, Terms};
use backstop_protocol::{
    clock::UnixMillis,
    quota::{Quota, QuotaLevel},
};

impl Account {
    /// All bytes that count against the quota.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.log_bytes.saturating_add(self.kept_bytes)
    }

    /// The account's room; `None` where it has no bounds.
    #[must_use]
    pub fn quota_state(&self, terms: &Terms) -> Option<Quota> {
        let ladder = terms.quota.ladder(self.quota)?;
        Some(ladder.quota(self.used()))
    }

    /// Whether so many bytes more are taken (I13).
    pub fn take(&self, bytes: usize, load: Load, terms: &Terms) -> Result<(), Refusal> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        match terms.quota.ladder(self.quota) {
            Some(ladder) => ladder.take(self.used(), bytes, load),
            None => Ok(()),
        }
    }

    /// Whether a pack of a client is taken; one that is there already always is.
    pub fn take_pack(&self, bytes: u64, is_there: bool, terms: &Terms) -> Result<(), Refusal> {
        if self.going {
            return Err(Refusal::NotFound);
        }
        if is_there {
            return Ok(());
        }
        self.take(usize::try_from(bytes).unwrap_or(usize::MAX), Load::Other, terms)
    }

    /// Whether a new snapshot is asked for: early, once most of the quota is used.
    pub(super) fn asks(&self, terms: &Terms, quota: Option<&Quota>, now: UnixMillis) -> bool {
        if quota.is_some_and(|quota| quota.level >= QuotaLevel::Near) {
            terms.roll_up.early().asks(&self.tail, now)
        } else {
            terms.roll_up.asks(&self.tail, now)
        }
    }
}
