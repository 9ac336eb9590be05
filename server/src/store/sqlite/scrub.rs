//! What a scrub asks of SQLite.

use super::{
    SqliteStore,
    cells::{id, int, number, page_end},
    writer::Job,
};
use crate::store::{AccountId, ChunkEntry, PackRow, RecordRow, ScrubStore, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    clock::UnixMillis,
    id::{ChunkId, PackId, RecordHash},
    record::RECORD_MIN,
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

#[async_trait]
impl ScrubStore for SqliteStore {
    async fn record_rows(
        &self,
        account: AccountId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<RecordRow>, StoreError> {
        let from = int(from)?;
        let most = i64::try_from(max_bytes / RECORD_MIN + 1).unwrap_or(i64::MAX);
        let mut view = self.reads.begin().await?;
        // Lengths first, as for a page of records.
        let lengths =
            sqlx::query("SELECT seq, bytes FROM records WHERE account = ? AND seq >= ? ORDER BY seq LIMIT ?")
                .bind(account.0)
                .bind(from)
                .bind(most)
                .fetch_all(&mut *view)
                .await?;
        let Some(last) = page_end(&lengths, max_bytes)? else {
            return Ok(Vec::new());
        };
        let rows = sqlx::query(
            "SELECT seq, epoch, hash, sealed FROM records WHERE account = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        )
        .bind(account.0)
        .bind(from)
        .bind(last)
        .fetch_all(&mut *view)
        .await?;
        rows.iter().map(record).collect()
    }

    async fn replaced_row(
        &self,
        account: AccountId,
        (seq, place): (u64, i64),
    ) -> Result<Option<(i64, RecordRow)>, StoreError> {
        let row = sqlx::query(
            "SELECT place, seq, epoch, hash, sealed FROM replaced_records
             WHERE account = ? AND (seq, place) > (?, ?) ORDER BY seq, place LIMIT 1",
        )
        .bind(account.0)
        .bind(int(seq)?)
        .bind(place)
        .fetch_optional(&self.reads)
        .await?;
        row.map(|row| Ok((row.try_get("place")?, record(&row)?)))
            .transpose()
    }

    async fn files_row(&self, account: AccountId, after: i64) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        let found = sqlx::query_as(
            "SELECT version, sealed FROM files WHERE account = ? AND version > ? ORDER BY version LIMIT 1",
        );
        Ok(found
            .bind(account.0)
            .bind(after)
            .fetch_optional(&self.reads)
            .await?)
    }

    async fn packs_above(
        &self,
        account: AccountId,
        after: Option<PackId>,
        most: usize,
    ) -> Result<Vec<PackId>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        let rows = sqlx::query(
            "SELECT id FROM packs WHERE account = ? AND id > ? AND removing_at IS NULL
                AND EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.pack)
             ORDER BY id LIMIT ?",
        )
        .bind(account.0)
        .bind(after.map_or_else(Vec::new, |pack| pack.0.to_vec()))
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
        rows.iter().map(|row| Ok(PackId(id(row, "id")?))).collect()
    }

    async fn pack_row(&self, account: AccountId, pack: PackId) -> Result<Option<PackRow>, StoreError> {
        let mut connection = self.reads.acquire().await?;
        let rows = sqlx::query(
            "SELECT packs.bytes, packs.damaged_at IS NOT NULL AS damaged, chunks.id, chunks.offset, chunks.len
             FROM packs CROSS JOIN chunks ON chunks.pack = packs.pack
             WHERE packs.account = ? AND packs.id = ? AND packs.removing_at IS NULL ORDER BY chunks.offset",
        )
        .bind(account.0)
        .bind(pack.0.as_slice())
        .fetch_all(&mut *connection)
        .await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let small = |row: &SqliteRow, column| {
            u32::try_from(number(row, column)?).map_err(|_| StoreError::corrupt(column))
        };
        let chunk = |row: &SqliteRow| -> Result<ChunkEntry, StoreError> {
            Ok(ChunkEntry {
                id: ChunkId(id(row, "id")?),
                offset: small(row, "offset")?,
                len: small(row, "len")?,
            })
        };
        Ok(Some(PackRow {
            bytes: number(first, "bytes")?,
            damaged: first.try_get("damaged")?,
            chunks: rows.iter().map(chunk).collect::<Result<_, _>>()?,
        }))
    }

    async fn knows_pack(&self, account: AccountId, pack: PackId) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM packs WHERE account = ? AND id = ?")
            .bind(account.0)
            .bind(pack.0.as_slice())
            .fetch_optional(&self.reads)
            .await?;
        Ok(found.is_some())
    }

    async fn mark_pack(
        &self,
        account: AccountId,
        pack: PackId,
        damaged: bool,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let at = damaged.then_some(now);
        self.submit(|answer| Job::MarkPack(account, pack, at, answer))
            .await
    }

    async fn damaged_packs(&self, account: AccountId) -> Result<Vec<PackId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM packs WHERE account = ? AND damaged_at IS NOT NULL")
            .bind(account.0)
            .fetch_all(&self.reads)
            .await?;
        rows.iter().map(|row| Ok(PackId(id(row, "id")?))).collect()
    }

    async fn begin_scrub(
        &self,
        before: UnixMillis,
        now: UnixMillis,
    ) -> Result<Option<AccountId>, StoreError> {
        self.submit(|answer| Job::BeginScrub(before, now, answer)).await
    }
}

fn record(row: &SqliteRow) -> Result<RecordRow, StoreError> {
    Ok(RecordRow {
        seq: number(row, "seq")?,
        epoch: number(row, "epoch")?,
        hash: RecordHash(id(row, "hash")?),
        sealed: row.try_get("sealed")?,
    })
}

pub(super) async fn mark(
    connection: &mut SqliteConnection,
    account: AccountId,
    pack: PackId,
    at: Option<UnixMillis>,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE packs SET damaged_at = ? WHERE account = ? AND id = ? AND removing_at IS NULL
            AND EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.pack)",
    )
    .bind(at.map(|at| int(at.0)).transpose()?)
    .bind(account.0)
    .bind(pack.0.as_slice())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

const BEGIN: &str = "UPDATE accounts SET scrubbed_at = ? WHERE account = (
    SELECT account FROM accounts WHERE coalesce(scrubbed_at, 0) < ? ORDER BY coalesce(scrubbed_at, 0) LIMIT 1
 ) RETURNING account";

pub(super) async fn begin(
    connection: &mut SqliteConnection,
    before: UnixMillis,
    now: UnixMillis,
) -> Result<Option<AccountId>, StoreError> {
    let account: Option<i64> = sqlx::query_scalar(BEGIN)
        .bind(int(now.0)?)
        .bind(int(before.0)?)
        .fetch_optional(connection)
        .await?;
    Ok(account.map(AccountId))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{AssertSqlSafe, Connection as _};

    #[tokio::test]
    async fn whose_turn_it_is_is_found_without_going_through_all_accounts() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        crate::store::sqlite::MIGRATIONS
            .run(&mut connection)
            .await
            .unwrap();
        let plan = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {BEGIN}"));
        for step in sqlx::query(plan).fetch_all(&mut connection).await.unwrap() {
            let step: String = step.get("detail");
            assert!(
                step.starts_with("SEARCH accounts") || step.starts_with("SCALAR"),
                "{step}"
            );
        }
    }
}
