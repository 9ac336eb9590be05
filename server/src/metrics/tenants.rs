//! What is counted of tenants: how many are silent, out of room or leaving, what was said of them, and what became of
//! the webhooks.

use crate::webhooks::Kind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// How many nodes are how, as the last round over all accounts found them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) nodes: i64,
    pub(crate) silent: i64,
    pub(crate) near: i64,
    pub(crate) overdraft: i64,
    pub(crate) exhausted: i64,
    pub(crate) leaving: i64,
}

/// The counts of tenants.
#[derive(Clone, Debug, Default)]
pub(crate) struct TenantMetrics {
    nodes: Gauge,
    silent: Gauge,
    near: Gauge,
    overdraft: Gauge,
    exhausted: Gauge,
    leaving: Gauge,
    events: Family<EventLabel, Counter>,
    webhooks: Family<OutcomeLabel, Counter>,
}

impl TenantMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            ("nodes", "Nodes that have an account", &self.nodes),
            (
                "nodes_silent",
                "Nodes whose last record is older than is usual for them",
                &self.silent,
            ),
            (
                "nodes_near_quota",
                "Nodes that use most of their quota",
                &self.near,
            ),
            (
                "nodes_in_overdraft",
                "Nodes that use more than their quota",
                &self.overdraft,
            ),
            (
                "nodes_out_of_room",
                "Nodes whose records are about to be refused",
                &self.exhausted,
            ),
            ("nodes_leaving", "Nodes that are to be removed", &self.leaving),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register("events", "What happened to nodes, by event", self.events.clone());
        registry.register(
            "webhooks",
            "What became of webhooks, by outcome",
            self.webhooks.clone(),
        );
        // An alarm on an increase needs the nought before it.
        for kind in Kind::ALL {
            let event = kind.as_str();
            drop(self.events.get_or_create(&EventLabel { event }));
        }
        for outcome in ["sent", "failed", "dropped"] {
            drop(self.webhooks.get_or_create(&OutcomeLabel { outcome }));
        }
    }

    pub(crate) fn stand(&self, standing: Standing) {
        self.nodes.set(standing.nodes);
        self.silent.set(standing.silent);
        self.near.set(standing.near);
        self.overdraft.set(standing.overdraft);
        self.exhausted.set(standing.exhausted);
        self.leaving.set(standing.leaving);
    }

    pub(crate) fn happened(&self, kind: Kind) {
        let event = kind.as_str();
        self.events.get_or_create(&EventLabel { event }).inc();
    }

    pub(crate) fn sent(&self) {
        self.webhook("sent");
    }

    pub(crate) fn failed(&self) {
        self.webhook("failed");
    }

    pub(crate) fn dropped(&self) {
        self.webhook("dropped");
    }

    fn webhook(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    #[cfg(test)]
    pub(crate) fn dropped_so_far(&self) -> u64 {
        let outcome = "dropped";
        self.webhooks.get_or_create(&OutcomeLabel { outcome }).get()
    }
}
