//! Which of a node's past states a server can still give.

use super::{error::RestoreError, server::BackupServer};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    clock::UnixMillis,
    record::{RecordHeader, RecordKind},
};

/// The past that can be gone back to: the state after any record from `oldest` to the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The account as it stood.
    pub account: AccountState,
    /// The complete snapshots that the log leads on from, the newest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// When the first record of the log was received; `None` where the log is empty.
    pub first_received_at: Option<UnixMillis>,
    /// The oldest record whose state can be rebuilt; `None` where there is none.
    pub oldest: Option<u64>,
}

/// What was asked for is not in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Beyond {
    /// It is older than all that is kept.
    #[error(
        "the history does not reach back so far: the oldest state that can be rebuilt is the one after record {0}"
    )]
    Older(u64),
    /// It has not come yet.
    #[error("the backup ends at record {0}")]
    Newer(u64),
    /// Nothing is kept that a state can be rebuilt from.
    #[error("the server holds nothing from which a state of this node can be rebuilt")]
    Nothing,
}

impl History {
    /// Asks the server.
    pub async fn read(server: &impl BackupServer, account: AccountState) -> Result<Self, RestoreError> {
        let first = first_seq(&account);
        let page = server.records(first).await?;
        let mut snapshots = server.snapshots().await?;
        // Below the log a snapshot's place in the chain could not be proved.
        snapshots
            .retain(|info| info.base_seq <= account.head.seq && info.base_seq.saturating_add(1) >= first);
        let from_snapshot = snapshots.iter().map(|info| info.base_seq).min();
        let from_log = (first == 1).then(|| first_batch(&page)).flatten();
        Ok(Self {
            snapshots,
            first_received_at: page.first().map(|(at, _)| *at),
            oldest: from_log.or(from_snapshot),
            account,
        })
    }

    /// Whether the state after this record can be rebuilt.
    pub fn reaches(&self, seq: u64) -> Result<(), Beyond> {
        match self.oldest {
            None => Err(Beyond::Nothing),
            Some(oldest) if seq < oldest => Err(Beyond::Older(oldest)),
            Some(_) if seq > self.account.head.seq => Err(Beyond::Newer(self.account.head.seq)),
            Some(_) => Ok(()),
        }
    }

    /// The last record that had been received at a time, by the server's clock. Asks for about as many pages of the
    /// log as their number has binary digits.
    pub async fn record_at(
        &self,
        server: &impl BackupServer,
        at: UnixMillis,
    ) -> Result<Result<u64, Beyond>, RestoreError> {
        let Some(oldest) = self.oldest else {
            return Ok(Err(Beyond::Nothing));
        };
        // Every record below `from` had come by then, and none from `to` on.
        let (mut from, mut to) = (first_seq(&self.account), self.account.head.seq.saturating_add(1));
        while from < to {
            let middle = from + (to - from) / 2;
            let page = server.records(middle).await?;
            if page.is_empty() {
                break;
            }
            let came = page.iter().take_while(|(received, _)| *received <= at).count();
            let place = middle.saturating_add(u64::try_from(came).unwrap_or(u64::MAX));
            if came < page.len() {
                to = to.min(place);
            }
            if came > 0 {
                from = from.max(place.min(to));
            }
        }
        let by_log = (from > first_seq(&self.account)).then(|| from.saturating_sub(1));
        // The record of the oldest snapshot may be gone already; it came before the snapshot's commit.
        let by_snapshot = self
            .snapshots
            .iter()
            .filter(|info| info.committed_at <= at)
            .map(|info| info.base_seq)
            .max();
        Ok(match by_log.max(by_snapshot) {
            Some(seq) if seq >= oldest => Ok(seq),
            _ => Err(Beyond::Older(oldest)),
        })
    }
}

/// Where the log begins; one after the head where it is empty.
fn first_seq(account: &AccountState) -> u64 {
    match account.first_seq {
        0 => account.head.seq.saturating_add(1),
        seq => seq,
    }
}

/// The first batch of a log from its very first record on, where no gap comes before it.
fn first_batch(page: &[(UnixMillis, bytes::Bytes)]) -> Option<u64> {
    page.iter()
        .filter_map(|(_, sealed)| RecordHeader::parse(sealed).ok())
        .find(|header| header.kind != RecordKind::Policy)
        .filter(|header| header.kind == RecordKind::Batch)
        .map(|header| header.seq)
}
