//! What an operator is to hear and did not hear yet, in SQL that every database of ours understands.

use super::StoreError;
use async_trait::async_trait;
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};

/// Alarms that wait at most; one more is not kept.
pub const ALARMS_MAX: i64 = 10_000;

/// An event of a node, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What happened, by its stable name.
    pub kind: String,
    /// To whom.
    pub node: NodeId,
    /// On which network.
    pub network: Network,
    /// When, by the server's clock.
    pub at: UnixMillis,
    /// For a person, at most 2000 characters.
    pub text: String,
}

/// The part of a [`Store`](super::Store) that keeps alarms until they are delivered.
#[async_trait]
pub trait AlarmStore {
    /// Keeps one; `false` where [`ALARMS_MAX`] wait already.
    async fn keep_alarm(&self, alarm: Alarm) -> Result<bool, StoreError>;

    /// Takes the oldest that nobody is delivering, until then: of several servers one has it. Its number goes with it.
    async fn take_alarm(
        &self,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<Option<(i64, Alarm)>, StoreError>;

    /// Lets others take it again from a time on.
    async fn free_alarm(&self, alarm: i64, at: UnixMillis) -> Result<(), StoreError>;

    /// Forgets one that was delivered, or is too old.
    async fn end_alarm(&self, alarm: i64) -> Result<(), StoreError>;
}

macro_rules! alarms {
    ($connection:ty, $query:path, $lock:literal) => {
        use async_trait::async_trait;
        use backstop_protocol::{clock::UnixMillis, id::NodeId};
        use $crate::store::{
            Alarm, AlarmStore, StoreError,
            alarms::ALARMS_MAX,
            cells::{Cells as _, id, int, time},
        };

        pub(super) async fn keep(connection: &mut $connection, alarm: &Alarm) -> Result<bool, StoreError> {
            let kept = $query(
                "INSERT INTO alarms (kind, node, network, at, text)
                 SELECT $1, $2, $3, $4, $5 WHERE (SELECT count(*) FROM alarms) < $6",
            )
            .bind(alarm.kind.clone())
            .bind(alarm.node.0.to_vec())
            .bind(alarm.network.as_str())
            .bind(int(alarm.at.0)?)
            .bind(alarm.text.clone())
            .bind(ALARMS_MAX)
            .execute(connection)
            .await?;
            Ok(kept.rows_affected() > 0)
        }

        pub(super) async fn take(
            connection: &mut $connection,
            now: UnixMillis,
            until: UnixMillis,
        ) -> Result<Option<(i64, Alarm)>, StoreError> {
            let row = $query(concat!(
                "UPDATE alarms SET free_at = $1 WHERE alarm = (
                    SELECT alarm FROM alarms WHERE free_at <= $2 ORDER BY alarm LIMIT 1",
                $lock,
                ") RETURNING alarm, kind, node, network, at, text"
            ))
            .bind(int(until.0)?)
            .bind(int(now.0)?)
            .fetch_optional(connection)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let corrupt = StoreError::corrupt;
            let alarm = Alarm {
                kind: row.text("kind")?.to_owned(),
                node: NodeId(id(&row, "node")?),
                network: row
                    .text("network")?
                    .parse()
                    .map_err(|_| corrupt("network"))?,
                at: time(&row, "at")?.ok_or_else(|| corrupt("at"))?,
                text: row.text("text")?.to_owned(),
            };
            Ok(Some((
                row.integer("alarm")?.ok_or_else(|| corrupt("alarm"))?,
                alarm,
            )))
        }

        pub(super) async fn free(
            connection: &mut $connection,
            alarm: i64,
            at: UnixMillis,
        ) -> Result<(), StoreError> {
            $query("UPDATE alarms SET free_at = $1 WHERE alarm = $2")
                .bind(int(at.0)?)
                .bind(alarm)
                .execute(connection)
                .await?;
            Ok(())
        }

        pub(super) async fn end(connection: &mut $connection, alarm: i64) -> Result<(), StoreError> {
            $query("DELETE FROM alarms WHERE alarm = $1")
                .bind(alarm)
                .execute(connection)
                .await?;
            Ok(())
        }
    };
}
pub(in crate::store) use alarms;
