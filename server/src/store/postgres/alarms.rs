//! Alarms in PostgreSQL.

use super::PostgresStore;

crate::store::alarms::alarms!(sqlx::PgConnection, super::cells::query, " FOR UPDATE SKIP LOCKED");

#[async_trait]
impl AlarmStore for PostgresStore {
    async fn keep_alarm(&self, alarm: Alarm) -> Result<bool, StoreError> {
        self.database
            .write(alarm, |connection, alarm| Box::pin(keep(connection, alarm)))
            .await
    }

    async fn take_alarm(
        &self,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<Option<(i64, Alarm)>, StoreError> {
        self.database
            .write((now, until), |connection, (now, until)| {
                Box::pin(take(connection, *now, *until))
            })
            .await
    }

    async fn free_alarm(&self, alarm: i64, at: UnixMillis) -> Result<(), StoreError> {
        self.database
            .write((alarm, at), |connection, (alarm, at)| {
                Box::pin(free(connection, *alarm, *at))
            })
            .await
    }

    async fn end_alarm(&self, alarm: i64) -> Result<(), StoreError> {
        self.database
            .write(alarm, |connection, alarm| Box::pin(end(connection, *alarm)))
            .await
    }
}
