//! What a scrub asks of a store: rows as they lie there, with what each says of itself, and a mark for packs that are not
//! what they should be.

use super::{AccountId, ChunkEntry, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    clock::UnixMillis,
    id::{PackId, RecordHash},
};

/// A record of a log, and what its row says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    /// Its place.
    pub seq: u64,
    /// The writer's epoch.
    pub epoch: u64,
    /// Its hash.
    pub hash: RecordHash,
    /// The whole record.
    pub sealed: Vec<u8>,
}

/// A pack that holds chunks, by the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// Its length.
    pub bytes: u64,
    /// Whether it is marked as damaged.
    pub damaged: bool,
    /// Its chunks; not empty.
    pub chunks: Vec<ChunkEntry>,
}

/// The part of a [`Store`](super::Store) that a scrub works with.
#[async_trait]
pub trait ScrubStore: Send + Sync {
    /// Records from `from` on, in order, as many as fit in `max_bytes` but at least one where there is one.
    async fn record_rows(
        &self,
        account: AccountId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<RecordRow>, StoreError>;

    /// The replaced record that comes after another, by seq and place, and its own place.
    async fn replaced_row(
        &self,
        account: AccountId,
        after: (u64, i64),
    ) -> Result<Option<(i64, RecordRow)>, StoreError>;

    /// The version of the files beside the database that comes after another, and its number.
    async fn files_row(&self, account: AccountId, after: i64) -> Result<Option<(i64, Vec<u8>)>, StoreError>;

    /// Packs above `after` that hold chunks and are not being removed, ascending, at most `most`.
    async fn packs_above(
        &self,
        account: AccountId,
        after: Option<PackId>,
        most: usize,
    ) -> Result<Vec<PackId>, StoreError>;

    /// What the index says of a pack; `None` where it holds no chunk, or is being removed.
    async fn pack_row(&self, account: AccountId, pack: PackId) -> Result<Option<PackRow>, StoreError>;

    /// Whether the store has a row for a pack, in whatever state.
    async fn knows_pack(&self, account: AccountId, pack: PackId) -> Result<bool, StoreError>;

    /// Marks a pack that holds chunks as damaged, or lets go of the mark. From the mark on its chunks count as missing for
    /// whoever commits a snapshot, until they have come again in another pack, or this one has. Whether the pack was there
    /// to be marked, and holds chunks.
    async fn mark_pack(
        &self,
        account: AccountId,
        pack: PackId,
        damaged: bool,
        now: UnixMillis,
    ) -> Result<bool, StoreError>;

    /// The packs that are marked as damaged.
    async fn damaged_packs(&self, account: AccountId) -> Result<Vec<PackId>, StoreError>;

    /// Takes on the account whose last scrub began longest ago, and before `before`: of several servers one has it. `None`
    /// where there is none.
    async fn begin_scrub(&self, before: UnixMillis, now: UnixMillis)
    -> Result<Option<AccountId>, StoreError>;
}
