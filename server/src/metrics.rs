//! What is counted, for an operator's questions. No label names a node, a key or an address: their number is bounded by
//! the code, not by who calls.

mod tenants;

pub(crate) use tenants::{Standing, TenantMetrics};

use crate::scrub::ScrubMetrics;
use backstop_protocol::{grant::Scope, problem::ProblemCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::{fmt, sync::Arc, time::Duration};

/// Content type of [`Metrics::text`].
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ScopeLabel {
    scope: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Why {
    why: &'static str,
}

/// Why the server ended a connection by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The head of a request did not arrive in time.
    Head,
    /// Nothing was asked for a long time.
    Idle,
    /// The client took nothing of its answer.
    Stall,
    /// The client did not speak TLS, or did not like the certificate.
    Tls,
}

impl Cut {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Idle => "idle",
            Self::Stall => "stall",
            Self::Tls => "tls",
        }
    }
}

/// The counts of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    refusals: Family<Code, Counter>,
    sessions: Family<ScopeLabel, Counter>,
    appends: Counter,
    append_seconds: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
    roll_ups_asked: Counter,
    roll_ups_committed: Counter,
    proofs: Family<Outcome, Counter>,
    connections: ConnectionMetrics,
    scrubs: ScrubMetrics,
    tenants: TenantMetrics,
}

/// The counts of the connections to one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionMetrics {
    open: Gauge,
    accepted: Counter,
    refused: Counter,
    cut: Family<Why, Counter>,
}

impl ConnectionMetrics {
    /// A connection was accepted; it is open until what this returns is dropped.
    pub(crate) fn opened(&self) -> Open {
        self.accepted.inc();
        self.open.inc();
        Open(self.open.clone())
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn cut(&self, why: Cut) {
        self.cut.get_or_create(&Why { why: why.as_str() }).inc();
    }
}

/// An open connection.
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("backstop"),
            requests: Family::default(),
            refusals: Family::default(),
            sessions: Family::default(),
            appends: Counter::default(),
            // From half a millisecond, the fsync of a good disk, to eight seconds.
            append_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            roll_ups_asked: Counter::default(),
            roll_ups_committed: Counter::default(),
            proofs: Family::default(),
            connections: ConnectionMetrics::default(),
            scrubs: ScrubMetrics::default(),
            tenants: TenantMetrics::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What runs", version);
        registry.register(
            "requests",
            "Requests answered, by method, path template and status",
            self.requests.clone(),
        );
        registry.register(
            "refusals",
            "Requests refused, by problem code",
            self.refusals.clone(),
        );
        registry.register(
            "sessions_opened",
            "Sessions opened, by scope",
            self.sessions.clone(),
        );
        registry.register(
            "appends",
            "Records acknowledged, those sent again among them",
            self.appends.clone(),
        );
        registry.register_with_unit(
            "append_commit",
            "Time from a whole request to a durable record",
            Unit::Seconds,
            self.append_seconds.clone(),
        );
        registry.register_with_unit(
            "received",
            "Bodies of requests with a session",
            Unit::Bytes,
            self.bytes_in.clone(),
        );
        registry.register_with_unit("sent", "Bodies of answers", Unit::Bytes, self.bytes_out.clone());
        registry.register(
            "roll_ups_asked",
            "Acknowledgements that asked for a roll-up",
            self.roll_ups_asked.clone(),
        );
        registry.register(
            "roll_ups_committed",
            "Snapshots committed",
            self.roll_ups_committed.clone(),
        );
        registry.register(
            "proofs",
            "Comparisons of backups with their databases that nodes reported, by outcome",
            self.proofs.clone(),
        );
        let connections = &self.connections;
        registry.register(
            "connections_open",
            "Connections open now",
            connections.open.clone(),
        );
        registry.register(
            "connections_accepted",
            "Connections accepted",
            connections.accepted.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed at once because too many were open",
            connections.refused.clone(),
        );
        registry.register(
            "connections_cut",
            "Connections that the server ended, by why",
            connections.cut.clone(),
        );
        self.scrubs.register(registry);
        self.tenants.register(registry);
        for outcome in ["equal", "failed"] {
            // An alarm on an increase needs the nought before it.
            drop(self.proofs.get_or_create(&Outcome { outcome }));
        }
    }

    /// The counts of connections.
    pub(crate) fn connections(&self) -> &ConnectionMetrics {
        &self.connections
    }

    /// The counts of scrubs.
    pub(crate) fn scrubs(&self) -> &ScrubMetrics {
        &self.scrubs
    }

    /// The counts of tenants.
    pub(crate) fn tenants(&self) -> &TenantMetrics {
        &self.tenants
    }

    /// A request was answered. `route` is the path's template.
    pub(crate) fn answered(&self, method: &'static str, route: &str, status: u16, bytes: u64) {
        let labels = Request {
            method,
            route: route.to_owned(),
            status,
        };
        self.requests.get_or_create(&labels).inc();
        self.bytes_out.inc_by(bytes);
    }

    pub(crate) fn refused(&self, code: ProblemCode) {
        self.refusals.get_or_create(&Code { code: code.as_str() }).inc();
    }

    pub(crate) fn session_opened(&self, scope: Scope) {
        let scope = match scope {
            Scope::Append => "append",
            Scope::Read => "read",
        };
        self.sessions.get_or_create(&ScopeLabel { scope }).inc();
    }

    /// A record is durable, after so long.
    pub(crate) fn appended(&self, after: Duration, asked_to_roll_up: bool) {
        self.appends.inc();
        self.append_seconds.observe(after.as_secs_f64());
        if asked_to_roll_up {
            self.roll_ups_asked.inc();
        }
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.inc_by(bytes as u64);
    }

    pub(crate) fn rolled_up(&self) {
        self.roll_ups_committed.inc();
    }

    /// A node compared its backup with its database.
    pub(crate) fn proved(&self, equal: bool) {
        let outcome = if equal { "equal" } else { "failed" };
        self.proofs.get_or_create(&Outcome { outcome }).inc();
    }

    /// All of it, and what another registry holds, as [`OPEN_METRICS`].
    pub(crate) fn text(&self, more: &Registry) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode(&mut text, more)?;
        Ok(text)
    }
}
