//! Proves that what was acknowledged is still there: every record against its hash, every log against its head, every
//! snapshot against the log, every pack against its name and the index. It runs beside the requests, at a bounded rate.
//!
//! A pack that is lost or damaged is marked, so that the node sends its chunks again with its next snapshot; one that is
//! found whole again loses the mark. Nothing else is changed.

mod account;
mod orphans;
mod packs;
mod report;
mod schedule;
#[cfg(test)]
mod tests;

pub(crate) use report::{Fault, FaultKind, Report};
pub(crate) use schedule::{Schedule, ScrubMetrics};

use crate::{
    packs::{PackError, PackStore},
    store::{AccountId, Store, StoreError},
};
use backstop_protocol::clock::Clock;
use std::{sync::Arc, time::Duration};

/// How many accounts are listed at once.
const PAGE: usize = 256;

/// Why a scrub could not go on. It says nothing about what is stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrubError {
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error("the packs: {0}")]
    Packs(#[from] PackError),
}

/// Looks through a store and its packs.
pub(crate) struct Scrubber {
    store: Arc<dyn Store>,
    packs: Arc<dyn PackStore>,
    clock: Arc<dyn Clock>,
    /// Bytes that are read in a second, on average; 0 for as many as there are.
    rate: u64,
}

impl Scrubber {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        packs: Arc<dyn PackStore>,
        clock: Arc<dyn Clock>,
        rate: u64,
    ) -> Self {
        Self {
            store,
            packs,
            clock,
            rate,
        }
    }

    /// All accounts, and what lies in the pack store beside them.
    pub(crate) async fn everything(&self) -> Result<Report, ScrubError> {
        let mut report = Report::begin(self.clock.now());
        let mut after = AccountId(i64::MIN);
        loop {
            let page = self.store.accounts(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = *last;
            for account in page {
                self.account(account, &mut report).await?;
            }
        }
        self.orphans(&mut report).await?;
        report.ended_at = self.clock.now();
        Ok(report)
    }

    /// Rests as long as so many bytes may take.
    async fn pace(&self, bytes: u64) {
        if let Some(millis) = bytes.saturating_mul(1000).checked_div(self.rate) {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}
