//! What pages for people ask of a store, in SQL that every database of ours understands. It reads alone.

#[cfg(doc)]
use super::Refusal;
use super::{Account, AccountId, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};

/// Into how many stretches a log is cut to draw how it grew.
pub(super) const STRETCHES: u64 = 64;
/// How many records of each stretch are measured: however long the log, no more than a thousand rows are read.
pub(super) const MEASURED: u64 = 16;

/// Where a log stood at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthPoint {
    /// When the record arrived, by the server's clock; never before the point before.
    pub at: UnixMillis,
    /// The record's seq.
    pub seq: u64,
    /// Sealed bytes of what the log still holds, up to and with that record.
    pub bytes: u64,
}

/// How a log grew to what it is, from the first record that it still holds to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// At most one for each stretch, and the end; empty where there is no record.
    pub points: Vec<GrowthPoint>,
    /// Whether every record was measured. Else sizes between the first point and the last are estimates.
    pub exact: bool,
}

/// The part of a [`Store`](super::Store) that pages are made of.
#[async_trait]
pub trait PageStore {
    /// A node's account, if there is one.
    async fn account_of(&self, node: NodeId, network: Network) -> Result<Option<Account>, StoreError>;

    /// The whole of an account. Refusal: [`Refusal::NotFound`].
    async fn whole_account(&self, account: AccountId) -> Result<Account, StoreError>;

    /// The whole of accounts above `after`, ascending, at most `most`.
    async fn whole_accounts(&self, after: AccountId, most: usize) -> Result<Vec<Account>, StoreError>;

    /// How an account's log grew. Reads a thousand rows at most, however long the log is. Refusal:
    /// [`Refusal::NotFound`].
    async fn growth(&self, account: AccountId) -> Result<Growth, StoreError>;
}

/// How a log is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Records from one stretch's begin to the next one's.
    pub(super) step: u64,
}

/// The first records of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) first: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) at: UnixMillis,
}

impl Cut {
    /// `None` where the log holds nothing.
    pub(super) fn of(account: &Account) -> Option<Self> {
        let (first, last) = (account.first_seq, account.head.seq);
        let records = last.checked_sub(first)?.checked_add(1)?;
        (first > 0).then_some(Self {
            first,
            last,
            step: records.div_ceil(STRETCHES),
        })
    }

    /// How many records of each stretch are measured.
    pub(super) fn width(self) -> u64 {
        self.step.min(MEASURED)
    }

    /// The points that the measures give: each stretch grows by what its first records are on average, and all together by
    /// what the log is.
    pub(super) fn growth(self, account: &Account, measured: &[Measured]) -> Growth {
        let mut ends = Vec::with_capacity(measured.len());
        let mut sum = 0_u128;
        for stretch in measured {
            let end = stretch
                .first
                .saturating_add(self.step)
                .min(self.last.saturating_add(1));
            let records = end.saturating_sub(stretch.first);
            let bytes = u128::from(stretch.bytes) * u128::from(records) / u128::from(stretch.records.max(1));
            ends.push((stretch, sum));
            sum = sum.saturating_add(bytes);
        }
        let (log, sum) = (account.log_bytes, sum.max(1));
        let mut points: Vec<GrowthPoint> = Vec::with_capacity(ends.len().saturating_add(1));
        let mut push = |at: UnixMillis, seq, bytes| {
            // A clock may have been set back, and records may come late from another server.
            let at = points.last().map_or(at, |last| at.max(last.at));
            points.push(GrowthPoint { at, seq, bytes });
        };
        for (stretch, before) in ends {
            let bytes = before.saturating_mul(u128::from(log)) / sum;
            push(stretch.at, stretch.first, u64::try_from(bytes).unwrap_or(log));
        }
        if let Some(at) = account.head_received_at {
            push(at, self.last, log);
        }
        Growth {
            points,
            exact: self.step <= MEASURED,
        }
    }
}

macro_rules! pages {
    ($connection:ty, $query:path) => {
        use async_trait::async_trait;
        use backstop_protocol::id::{Network, NodeId};
        use $crate::store::{
            Account, AccountId, Growth, PageStore, StoreError,
            cells::{account as read, int, number, time},
            pages::{Cut, Measured},
        };

        pub(super) async fn account_of(
            connection: &mut $connection,
            node: NodeId,
            network: Network,
        ) -> Result<Option<Account>, StoreError> {
            let row = $query("SELECT * FROM accounts WHERE node = $1 AND network = $2")
                .bind(node.0.to_vec())
                .bind(network.as_str())
                .fetch_optional(connection)
                .await?;
            row.as_ref().map(read).transpose()
        }

        pub(super) async fn whole_accounts(
            connection: &mut $connection,
            after: AccountId,
            most: usize,
        ) -> Result<Vec<Account>, StoreError> {
            let rows = $query("SELECT * FROM accounts WHERE account > $1 ORDER BY account LIMIT $2")
                .bind(after.0)
                .bind(i64::try_from(most).unwrap_or(i64::MAX))
                .fetch_all(connection)
                .await?;
            rows.iter().map(read).collect()
        }

        pub(super) async fn growth(
            connection: &mut $connection,
            account: AccountId,
        ) -> Result<Growth, StoreError> {
            let account = super::accounts::load(connection, account).await?;
            let Some(cut) = Cut::of(&account) else {
                return Ok(Growth::default());
            };
            let rows = $query(
                "WITH RECURSIVE stretch (low) AS (
                    SELECT CAST($2 AS bigint) UNION ALL SELECT low + $3 FROM stretch WHERE low + $3 <= $4
                 )
                 SELECT low, count(*) AS records, CAST(sum(bytes) AS bigint) AS bytes, min(received_at) AS at
                 FROM stretch JOIN records ON account = $1 AND seq >= low AND seq < low + $5
                 GROUP BY low ORDER BY low",
            )
            .bind(account.id.0)
            .bind(int(cut.first)?)
            .bind(int(cut.step)?)
            .bind(int(cut.last)?)
            .bind(int(cut.width())?)
            .fetch_all(connection)
            .await?;
            let measured = rows.iter().map(|row| {
                Ok(Measured {
                    first: number(row, "low")?,
                    records: number(row, "records")?,
                    bytes: number(row, "bytes")?,
                    at: time(row, "at")?.unwrap_or_default(),
                })
            });
            let measured: Vec<_> = measured.collect::<Result<_, StoreError>>()?;
            Ok(cut.growth(&account, &measured))
        }
    };
}
pub(super) use pages;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn account(first_seq: u64, last: u64, log_bytes: u64) -> Account {
        let mut account = Account::new(AccountId(1), NodeId([2; 33]), Network::Regtest);
        (account.first_seq, account.head.seq) = (first_seq, last);
        account.log_bytes = log_bytes;
        account.head_received_at = Some(UnixMillis(last));
        account
    }

    #[test]
    fn a_log_without_records_has_no_growth() {
        assert_eq!(Cut::of(&account(0, 0, 0)), None);
    }

    #[test]
    fn what_is_not_measured_is_taken_to_be_like_what_is() {
        let account = account(1, 6400, 640_000);
        let cut = Cut::of(&account).unwrap();
        assert_eq!((cut.step, cut.width()), (100, MEASURED));
        let measured: Vec<_> = (0..64)
            .map(|stretch| Measured {
                first: 1 + stretch * 100,
                records: 16,
                bytes: 16 * if stretch < 32 { 50 } else { 150 },
                at: UnixMillis(1 + stretch * 100),
            })
            .collect();
        let growth = cut.growth(&account, &measured);
        assert!(!growth.exact);
        assert_eq!(growth.points.len(), 65);
        let at = |point: usize| (growth.points[point].seq, growth.points[point].bytes);
        assert_eq!(
            (at(0), at(32), at(64)),
            ((1, 0), (3201, 160_000), (6400, 640_000))
        );
    }

    proptest! {
        /// However long the log, and whatever its records and the clock.
        #[test]
        fn growth_never_falls_never_goes_back_and_ends_at_the_log(
            first in 1_u64..1 << 40, records in 1_u64..1 << 40, log in any::<u32>(), sizes in proptest::collection::vec((0_u64..1 << 30, any::<u32>()), 64),
        ) {
            let account = account(first, first + records - 1, log.into());
            let cut = Cut::of(&account).unwrap();
            let measured: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(at, (bytes, time))| Measured {
                    first: first + at as u64 * cut.step,
                    records: cut.width(),
                    bytes: *bytes,
                    at: UnixMillis((*time).into()),
                })
                .take_while(|measured| measured.first <= cut.last)
                .collect();
            prop_assert!(measured.len() as u64 * cut.width() <= STRETCHES * MEASURED);
            let growth = cut.growth(&account, &measured);
            prop_assert!(growth.points.is_sorted_by_key(|point| point.at));
            prop_assert!(growth.points.is_sorted_by_key(|point| point.bytes));
            prop_assert_eq!(growth.points.last().map(|point| point.bytes), Some(u64::from(log)));
            prop_assert_eq!(growth.exact, records <= STRETCHES * MEASURED);
        }
    }
}
