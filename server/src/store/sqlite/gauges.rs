//! What SQLite tells an operator.

use super::{
    READERS, SqliteStore,
    cells::{node_gauges, number},
};
use crate::store::{GaugeStore, GroupSizes, Overview, PoolGauges, StoreError};
use async_trait::async_trait;

#[async_trait]
impl GaugeStore for SqliteStore {
    async fn overview(&self, nodes: u32) -> Result<Overview, StoreError> {
        let mut view = self.reads.begin().await?;
        let all = sqlx::query(
            "SELECT count(*) AS accounts, coalesce(sum(log_bytes), 0) AS log_bytes, count(held_since) AS held FROM accounts",
        )
        .fetch_one(&mut *view)
        .await?;
        let rows = sqlx::query(
            "SELECT node, network, log_bytes, snapshot_bytes, head_received_at FROM accounts ORDER BY account LIMIT ?",
        )
        .bind(i64::from(nodes))
        .fetch_all(&mut *view)
        .await?;
        Ok(Overview {
            accounts: number(&all, "accounts")?,
            log_bytes: number(&all, "log_bytes")?,
            held: number(&all, "held")?,
            nodes: rows.iter().map(node_gauges).collect::<Result<_, _>>()?,
        })
    }

    fn pool(&self) -> PoolGauges {
        let idle = u32::try_from(self.reads.num_idle()).unwrap_or(u32::MAX);
        PoolGauges {
            used: self.reads.size().saturating_sub(idle),
            most: READERS,
        }
    }

    fn group_sizes(&self) -> &GroupSizes {
        &self.groups
    }
}
