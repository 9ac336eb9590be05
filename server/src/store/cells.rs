//! Between a database's values and ours, alike for every database: 64-bit numbers without a sign, identifiers, rows that
//! mean an account or a snapshot.

use super::{
    Account, AccountId, Aged, Invite, InviteId, NodeGauges, RemovalBy, Removing, Seat, StoreError, Tail,
    Told, Writer,
};
use backstop_protocol::{
    api::{Proof, RememberedGrant, SnapshotInfo},
    clock::UnixMillis,
    head::Head,
    id::{InstanceId, Network, NodeId, RecordHash, RunId, SnapshotId, TimelineId},
};
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};

/// A row of any of our databases.
pub(super) trait Cells {
    fn integer(&self, column: &'static str) -> Result<Option<i64>, sqlx::Error>;
    fn blob(&self, column: &'static str) -> Result<Option<&[u8]>, sqlx::Error>;
    fn text(&self, column: &'static str) -> Result<&str, sqlx::Error>;
    fn truth(&self, column: &'static str) -> Result<bool, sqlx::Error>;
}

macro_rules! cells_of {
    ($($row:ty),*) => {
        $(impl Cells for $row {
            fn integer(&self, column: &'static str) -> Result<Option<i64>, sqlx::Error> {
                self.try_get(column)
            }
            fn blob(&self, column: &'static str) -> Result<Option<&[u8]>, sqlx::Error> {
                self.try_get(column)
            }
            fn text(&self, column: &'static str) -> Result<&str, sqlx::Error> {
                self.try_get(column)
            }
            fn truth(&self, column: &'static str) -> Result<bool, sqlx::Error> {
                self.try_get(column)
            }
        })*
    };
}
cells_of!(SqliteRow, PgRow);

/// A number of ours as databases keep it. What came over the network was bounded when it was parsed.
pub(super) fn int(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::corrupt("signed 64-bit number"))
}

/// A time of ours as databases keep it, or nothing.
pub(super) fn millis(at: Option<UnixMillis>) -> Result<Option<i64>, StoreError> {
    at.map(|at| int(at.0)).transpose()
}

/// How many bytes of ours that are.
pub(super) fn length(bytes: &[u8]) -> Result<i64, StoreError> {
    i64::try_from(bytes.len()).map_err(|_| StoreError::corrupt("length"))
}

/// A column that holds a number of ours.
pub(super) fn number(row: &impl Cells, column: &'static str) -> Result<u64, StoreError> {
    let value = row.integer(column)?.ok_or_else(|| StoreError::corrupt(column))?;
    u64::try_from(value).map_err(|_| StoreError::corrupt(column))
}

/// A column that holds a number of ours, or nothing.
pub(super) fn optional(row: &impl Cells, column: &'static str) -> Result<Option<u64>, StoreError> {
    row.integer(column)?
        .map(u64::try_from)
        .transpose()
        .map_err(|_| StoreError::corrupt(column))
}

/// A column that holds a time, or nothing.
pub(super) fn time(row: &impl Cells, column: &'static str) -> Result<Option<UnixMillis>, StoreError> {
    row.integer(column)?
        .map(|value| u64::try_from(value).map(UnixMillis))
        .transpose()
        .map_err(|_| StoreError::corrupt(column))
}

/// A column that holds the bytes of an identifier, or nothing.
pub(super) fn bytes<const N: usize>(
    row: &impl Cells,
    column: &'static str,
) -> Result<Option<[u8; N]>, StoreError> {
    row.blob(column)?
        .map(<[u8; N]>::try_from)
        .transpose()
        .map_err(|_| StoreError::corrupt(column))
}

/// A column that must hold the bytes of an identifier.
pub(super) fn id<const N: usize>(row: &impl Cells, column: &'static str) -> Result<[u8; N], StoreError> {
    bytes(row, column)?.ok_or_else(|| StoreError::corrupt(column))
}

/// How many bytes these records are, which were just set aside: the head must be one of them.
pub(super) fn set_aside(gone: &[(RecordHash, u64)], head: RecordHash) -> Result<u64, StoreError> {
    let sum = gone
        .iter()
        .fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let found = gone.iter().any(|(hash, _)| *hash == head);
    found.then_some(sum).ok_or_else(|| StoreError::corrupt("head"))
}

/// A record that was taken out of the log: its hash and its length.
pub(super) fn gone(row: &impl Cells) -> Result<(RecordHash, u64), StoreError> {
    Ok((RecordHash(id(row, "hash")?), number(row, "bytes")?))
}

/// A whole row of `accounts`.
pub(super) fn account(row: &impl Cells) -> Result<Account, StoreError> {
    Ok(Account {
        id: AccountId(row.integer("account")?.ok_or(StoreError::corrupt("account"))?),
        node: NodeId(id(row, "node")?),
        network: row
            .text("network")?
            .parse::<Network>()
            .map_err(|_| StoreError::corrupt("network"))?,
        grant_floor: number(row, "grant_floor")?,
        seat: seat(row)?,
        timeline: bytes(row, "timeline")?.map(TimelineId),
        head: Head {
            epoch: number(row, "head_epoch")?,
            seq: number(row, "head_seq")?,
            hash: RecordHash(id(row, "head_hash")?),
        },
        before_head: RecordHash(id(row, "head_prev")?),
        head_received_at: time(row, "head_received_at")?,
        first_seq: number(row, "first_seq")?,
        log_bytes: number(row, "log_bytes")?,
        tail: Tail {
            bytes: number(row, "tail_bytes")?,
            records: number(row, "tail_records")?,
            since: time(row, "tail_since")?,
            snapshot_bytes: number(row, "snapshot_bytes")?,
            ordered: time(row, "roll_up_ordered_at")?.is_some(),
        },
        proof: proof(row)?,
        held_since: time(row, "held_since")?,
        restored_since: time(row, "restored_at")?,
        created_at: time(row, "created_at")?.unwrap_or_default(),
        kept_bytes: number(row, "kept_bytes")?,
        quota: optional(row, "quota")?,
        invite: bytes(row, "invite")?.map(InviteId),
        rhythm_ms: number(row, "rhythm_ms")?,
        removal: removal(row)?,
        removal_word_at: time(row, "removal_word_at")?,
        going: time(row, "going_since")?.is_some(),
        told: Told {
            silent_at: time(row, "told_silent_at")?,
            quota: number(row, "told_quota")?,
            removal_at: time(row, "told_removal_at")?,
        },
    })
}

fn removal(row: &impl Cells) -> Result<Option<Removing>, StoreError> {
    let Some(at) = time(row, "removal_at")? else {
        return Ok(None);
    };
    let by = match row.text("removal_by")? {
        "owner" => RemovalBy::Owner,
        _ => RemovalBy::Operator,
    };
    Ok(Some(Removing { at, by }))
}

/// A whole row of `invites`.
pub(super) fn invite(row: &impl Cells) -> Result<Invite, StoreError> {
    Ok(Invite {
        id: InviteId(id(row, "id")?),
        hash: id(row, "hash")?,
        note: row.text("note")?.to_owned(),
        quota: optional(row, "quota")?,
        uses: number(row, "uses")?,
        used: number(row, "used")?,
        created_at: time(row, "created_at")?.unwrap_or_default(),
        expires_at: time(row, "expires_at")?,
        revoked_at: time(row, "revoked_at")?,
    })
}

/// What an operator sees of an account.
pub(super) fn node_gauges(row: &impl Cells) -> Result<NodeGauges, StoreError> {
    Ok(NodeGauges {
        node: NodeId(id(row, "node")?),
        network: row
            .text("network")?
            .parse()
            .map_err(|_| StoreError::corrupt("network"))?,
        log_bytes: number(row, "log_bytes")?,
        snapshot_bytes: number(row, "snapshot_bytes")?,
        last_record_at: time(row, "head_received_at")?,
    })
}

fn seat(row: &impl Cells) -> Result<Option<Seat>, StoreError> {
    let seat = match (
        bytes(row, "instance")?,
        bytes(row, "run")?,
        time(row, "writer_since")?,
        time(row, "writer_seen_at")?,
    ) {
        (Some(instance), Some(run), Some(since), Some(seen_at)) => Some(Seat {
            writer: Writer {
                instance: InstanceId(instance),
                run: RunId(run),
                epoch: number(row, "epoch")?,
            },
            since,
            seen_at,
        }),
        _ => None,
    };
    Ok(seat)
}

fn proof(row: &impl Cells) -> Result<Option<Proof>, StoreError> {
    let Some(at) = time(row, "proof_at")? else {
        return Ok(None);
    };
    Ok(Some(Proof {
        at,
        seq: number(row, "proof_seq")?,
        equal: row.truth("proof_equal")?,
    }))
}

/// What is listed of a row of `grants`.
pub(super) fn remembered(row: &impl Cells) -> Result<RememberedGrant, StoreError> {
    Ok(RememberedGrant {
        text: row.text("text")?.to_owned(),
        signature: row.text("signature")?.to_owned(),
        shown_at: time(row, "shown_at")?.unwrap_or_default(),
    })
}

/// What is listed of a row of `snapshots`.
pub(super) fn info(row: &impl Cells) -> Result<SnapshotInfo, StoreError> {
    Ok(SnapshotInfo {
        snapshot: SnapshotId(id(row, "id")?),
        base_seq: number(row, "base_seq")?,
        base_hash: RecordHash(id(row, "base_hash")?),
        committed_at: time(row, "committed_at")?.unwrap_or_default(),
        bytes: number(row, "bytes")?,
    })
}

/// What decides whether the snapshot of a row goes.
pub(super) fn aged(row: &impl Cells) -> Result<Aged, StoreError> {
    Ok(Aged {
        key: row.integer("snapshot")?.ok_or(StoreError::corrupt("snapshot"))?,
        base_seq: number(row, "base_seq")?,
        committed_at: time(row, "committed_at")?.unwrap_or_default(),
        off_chain_at: time(row, "off_chain_at")?,
    })
}

/// How many of the oldest records, given with their lengths, go at once: no more than would hold up appends. The last one's
/// seq and the bytes that become free; `None` where there is none.
pub(super) fn oldest(rows: &[impl Cells]) -> Result<Option<(u64, u64)>, StoreError> {
    /// Beyond so many bytes a transaction takes no more.
    const BYTES: u64 = 16 << 20;
    let (mut freed, mut last) = (0_u64, None);
    for row in rows {
        if freed >= BYTES {
            break;
        }
        freed = freed.saturating_add(number(row, "bytes")?);
        last = Some(number(row, "seq")?);
    }
    Ok(last.map(|last| (last, freed)))
}

/// The last record of a page of at most `max_bytes`, given all that may be on it with their lengths. It holds one at
/// least; `None` where there is none.
pub(super) fn page_end(rows: &[impl Cells], max_bytes: usize) -> Result<Option<i64>, StoreError> {
    let max_bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let (mut last, mut total) = (None, 0_u64);
    for row in rows {
        total = total.saturating_add(number(row, "bytes")?);
        if last.is_some() && total > max_bytes {
            break;
        }
        last = row.integer("seq")?;
    }
    Ok(last)
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) {
            return Self::Unavailable(error.to_string());
        }
        super::postgres::trouble(&error)
            .or_else(|| super::sqlite::trouble(&error))
            .unwrap_or_else(|| Self::Failed(Box::new(error)))
    }
}
