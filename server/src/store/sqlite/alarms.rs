//! Alarms in SQLite.

use super::{SqliteStore, writer::Job};

crate::store::alarms::alarms!(sqlx::SqliteConnection, sqlx::query, "");

/// What is done with alarms.
pub(super) enum AlarmJob {
    Keep(Alarm, super::writer::Answer<bool>),
    Take(
        UnixMillis,
        UnixMillis,
        super::writer::Answer<Option<(i64, Alarm)>>,
    ),
    Free(i64, UnixMillis, super::writer::Answer<()>),
    End(i64, super::writer::Answer<()>),
}

#[async_trait]
impl AlarmStore for SqliteStore {
    async fn keep_alarm(&self, alarm: Alarm) -> Result<bool, StoreError> {
        self.submit(|answer| Job::Alarm(AlarmJob::Keep(alarm, answer)))
            .await
    }

    async fn take_alarm(
        &self,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<Option<(i64, Alarm)>, StoreError> {
        // Looking costs the writer nothing.
        let free: Option<i64> = sqlx::query_scalar("SELECT 1 FROM alarms WHERE free_at <= ? LIMIT 1")
            .bind(int(now.0)?)
            .fetch_optional(&self.reads)
            .await?;
        if free.is_none() {
            return Ok(None);
        }
        self.submit(|answer| Job::Alarm(AlarmJob::Take(now, until, answer)))
            .await
    }

    async fn free_alarm(&self, alarm: i64, at: UnixMillis) -> Result<(), StoreError> {
        self.submit(|answer| Job::Alarm(AlarmJob::Free(alarm, at, answer)))
            .await
    }

    async fn end_alarm(&self, alarm: i64) -> Result<(), StoreError> {
        self.submit(|answer| Job::Alarm(AlarmJob::End(alarm, answer)))
            .await
    }
}
