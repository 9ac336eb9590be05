//! What stands at a level, read anew whenever metrics are asked for: how much there is, connections in use, room on the disk.
//! A node is named only where the operator said how many may be.

use crate::store::{NodeGauges, Store};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Node {
    node: String,
    network: String,
}

/// The levels of one server.
pub(crate) struct Gauges {
    registry: Registry,
    /// The directory whose file system's room is looked at.
    data: PathBuf,
    /// How many nodes may be named.
    nodes: u32,
    store_up: Gauge,
    accounts: Gauge,
    held: Gauge,
    log_bytes: Gauge,
    disk_free: Gauge,
    pool_used: Gauge,
    pool_most: Gauge,
    node_log_bytes: Family<Node, Gauge>,
    node_snapshot_bytes: Family<Node, Gauge>,
    node_last_record: Family<Node, Gauge>,
}

impl Gauges {
    pub(crate) fn new(store: &dyn Store, data: &Path, nodes: u32) -> Self {
        let mut gauges = Self {
            registry: Registry::with_prefix("backstop"),
            data: data.to_owned(),
            nodes,
            store_up: Gauge::default(),
            accounts: Gauge::default(),
            held: Gauge::default(),
            log_bytes: Gauge::default(),
            disk_free: Gauge::default(),
            pool_used: Gauge::default(),
            pool_most: Gauge::default(),
            node_log_bytes: Family::default(),
            node_snapshot_bytes: Family::default(),
            node_last_record: Family::default(),
        };
        gauges.register(store);
        gauges
    }

    fn register(&mut self, store: &dyn Store) {
        let registry = &mut self.registry;
        registry.register(
            "append_group_size",
            "Appends that were committed together",
            store.group_sizes().0.clone(),
        );
        let plain = [
            (
                "store_up",
                "Whether the store answered this question",
                &self.store_up,
            ),
            ("accounts", "Accounts", &self.accounts),
            (
                "accounts_held",
                "Accounts that are held, because a comparison failed",
                &self.held,
            ),
            (
                "database_connections_used",
                "Connections to the database in use",
                &self.pool_used,
            ),
            (
                "database_connections_max",
                "Connections to the database that may be open",
                &self.pool_most,
            ),
        ];
        for (name, help, gauge) in plain {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, gauge) in [
            ("logs", "Sealed bytes of all logs", &self.log_bytes),
            (
                "disk_free",
                "Room on the data directory's file system",
                &self.disk_free,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        if self.nodes == 0 {
            return;
        }
        for (name, help, unit, family) in [
            (
                "node_log",
                "Sealed bytes of a node's log",
                Unit::Bytes,
                &self.node_log_bytes,
            ),
            (
                "node_snapshot",
                "Sealed bytes of a node's newest snapshot",
                Unit::Bytes,
                &self.node_snapshot_bytes,
            ),
            (
                "node_last_record",
                "When a node's last record arrived, since 1970",
                Unit::Seconds,
                &self.node_last_record,
            ),
        ] {
            registry.register_with_unit(name, help, unit, family.clone());
        }
    }

    /// Reads all levels anew.
    pub(crate) async fn refresh(&self, store: &dyn Store) {
        let pool = store.pool();
        self.pool_used.set(pool.used.into());
        self.pool_most.set(pool.most.into());
        let data = self.data.clone();
        let free = tokio::task::spawn_blocking(move || free(&data)).await;
        if let Ok(Some(free)) = free {
            self.disk_free.set(free);
        }
        let overview = store.overview(self.nodes).await;
        self.store_up.set(i64::from(overview.is_ok()));
        let overview = match overview {
            Ok(overview) => overview,
            Err(error) => {
                tracing::warn!(%error, "the store does not say how much there is");
                return;
            }
        };
        self.accounts.set(signed(overview.accounts));
        self.held.set(signed(overview.held));
        self.log_bytes.set(signed(overview.log_bytes));
        for family in [
            &self.node_log_bytes,
            &self.node_snapshot_bytes,
            &self.node_last_record,
        ] {
            // Who is here no more is named no more.
            family.clear();
        }
        for node in &overview.nodes {
            self.node(node);
        }
    }

    fn node(&self, node: &NodeGauges) {
        let labels = Node {
            node: node.node.to_string(),
            network: node.network.to_string(),
        };
        let set = |family: &Family<Node, Gauge>, value| {
            family.get_or_create(&labels).set(signed(value));
        };
        set(&self.node_log_bytes, node.log_bytes);
        set(&self.node_snapshot_bytes, node.snapshot_bytes);
        if let Some(at) = node.last_record_at {
            set(&self.node_last_record, at.0 / 1000);
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Bytes that the server may still write there.
fn free(data: &Path) -> Option<i64> {
    let system = nix::sys::statvfs::statvfs(data).ok()?;
    Some(signed(
        system.blocks_available().saturating_mul(system.fragment_size()),
    ))
}
