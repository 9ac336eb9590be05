//! The scrub that a server does by itself: one account after the other, each once in a while, whichever of several servers
//! has time for it.

use super::{FaultKind, Report, Scrubber};
use crate::rest;
use backstop_protocol::clock::{Clock, UnixMillis};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// How long to rest when there is nothing to do.
const REST: Duration = Duration::from_mins(10);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// What this server's scrubs found since it started.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScrubMetrics {
    accounts: Counter,
    bytes: Counter,
    faults: Family<Kind, Counter>,
    failed: Counter,
    last: Gauge,
}

impl ScrubMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("scrub_accounts", "Accounts scrubbed", self.accounts.clone());
        registry.register_with_unit(
            "scrub_read",
            "Records and packs read by scrubs",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register(
            "scrub_faults",
            "Faults that scrubs found, by kind",
            self.faults.clone(),
        );
        registry.register(
            "scrub_failures",
            "Scrubs that could not go on",
            self.failed.clone(),
        );
        registry.register_with_unit(
            "scrub_last_end",
            "When the last account's scrub ended, since 1970",
            Unit::Seconds,
            self.last.clone(),
        );
        for kind in FaultKind::ALL {
            // An alarm on an increase needs the nought before it.
            drop(self.faults.get_or_create(&Kind { kind: kind.as_str() }));
        }
    }

    fn ended(&self, report: &Report, now: UnixMillis) {
        self.accounts.inc_by(report.accounts);
        self.bytes.inc_by(report.record_bytes + report.pack_bytes);
        for fault in &report.faults {
            let kind = fault.kind.as_str();
            self.faults.get_or_create(&Kind { kind }).inc();
        }
        self.last.set(i64::try_from(now.0 / 1000).unwrap_or(i64::MAX));
    }
}

/// Scrubs each account once in a while.
pub(crate) struct Schedule {
    pub(crate) scrubber: Scrubber,
    pub(crate) clock: Arc<dyn Clock>,
    /// How often each account's turn comes.
    pub(crate) every: Duration,
    pub(crate) metrics: ScrubMetrics,
}

impl Schedule {
    /// Works until the server stops.
    pub(crate) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let stop = async {
            // An error means that the server is gone.
            drop(stopped.wait_for(|stopped| *stopped).await);
        };
        tokio::select! {
            () = stop => {}
            () = self.go_on() => {}
        }
    }

    async fn go_on(&self) {
        loop {
            let began = Instant::now();
            if self.next().await {
                rest::after(began).await;
            } else {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Scrubs the account whose turn it is; whether there was one, and it could be scrubbed.
    pub(crate) async fn next(&self) -> bool {
        let now = self.clock.now();
        let every = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX);
        let before = UnixMillis(now.0.saturating_sub(every));
        let account = match self.scrubber.store.begin_scrub(before, now).await {
            Ok(Some(account)) => account,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, "no account could be taken on for a scrub; tried again later");
                return false;
            }
        };
        let mut report = Report::begin(now);
        if let Err(error) = self.scrubber.account(account, &mut report).await {
            tracing::error!(account = account.0, %error, "the scrub could not go on; the account's turn comes again");
            self.metrics.failed.inc();
            return false;
        }
        for fault in &report.faults {
            tracing::error!(account = account.0, kind = %fault.kind, "scrub: {fault}");
        }
        self.metrics.ended(&report, self.clock.now());
        true
    }
}
