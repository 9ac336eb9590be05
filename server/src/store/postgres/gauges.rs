//! What PostgreSQL tells an operator.

use super::{
    CONNECTIONS, PostgresStore,
    cells::{node_gauges, number, query},
};
use crate::store::{GaugeStore, GroupSizes, Overview, PoolGauges, StoreError};
use async_trait::async_trait;
use sqlx::PgConnection;

#[async_trait]
impl GaugeStore for PostgresStore {
    async fn overview(&self, nodes: u32) -> Result<Overview, StoreError> {
        self.database
            .read(&nodes, |connection, nodes| Box::pin(overview(connection, *nodes)))
            .await
    }

    fn pool(&self) -> PoolGauges {
        let pools = [&self.database.pool, &self.appends.pool];
        let used = pools.map(|pool| {
            let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
            pool.size().saturating_sub(idle)
        });
        PoolGauges {
            used: used.iter().sum(),
            most: CONNECTIONS + 1,
        }
    }

    fn group_sizes(&self) -> &GroupSizes {
        &self.groups
    }
}

async fn overview(connection: &mut PgConnection, nodes: u32) -> Result<Overview, StoreError> {
    let all = query(
        "SELECT count(*) AS accounts, coalesce(sum(log_bytes), 0)::bigint AS log_bytes, count(held_since) AS held
         FROM accounts",
    )
    .fetch_one(&mut *connection)
    .await?;
    let rows = query(
        "SELECT node, network, log_bytes, snapshot_bytes, head_received_at FROM accounts ORDER BY account LIMIT $1",
    )
    .bind(i64::from(nodes))
    .fetch_all(connection)
    .await?;
    Ok(Overview {
        accounts: number(&all, "accounts")?,
        log_bytes: number(&all, "log_bytes")?,
        held: number(&all, "held")?,
        nodes: rows.iter().map(node_gauges).collect::<Result<_, _>>()?,
    })
}
