//! What a scrub asks of PostgreSQL.

use super::{
    PostgresStore, accounts,
    cells::{id, int, number, page_end, query, scalar},
};
use crate::store::{AccountId, ChunkEntry, PackRow, RecordRow, ScrubStore, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    clock::UnixMillis,
    id::{ChunkId, PackId, RecordHash},
    record::RECORD_MIN,
};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

#[async_trait]
impl ScrubStore for PostgresStore {
    async fn record_rows(
        &self,
        account: AccountId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<RecordRow>, StoreError> {
        self.database
            .read(&(account, from, max_bytes), |connection, (account, from, max)| {
                Box::pin(record_rows(connection, *account, *from, *max))
            })
            .await
    }

    async fn replaced_row(
        &self,
        account: AccountId,
        after: (u64, i64),
    ) -> Result<Option<(i64, RecordRow)>, StoreError> {
        self.database
            .read(&(account, after), |connection, (account, after)| {
                Box::pin(replaced_row(connection, *account, *after))
            })
            .await
    }

    async fn files_row(&self, account: AccountId, after: i64) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        self.database
            .read(&(account, after), |connection, (account, after)| {
                Box::pin(files_row(connection, *account, *after))
            })
            .await
    }

    async fn packs_above(
        &self,
        account: AccountId,
        after: Option<PackId>,
        most: usize,
    ) -> Result<Vec<PackId>, StoreError> {
        self.database
            .read(&(account, after, most), |connection, (account, after, most)| {
                Box::pin(packs_above(connection, *account, *after, *most))
            })
            .await
    }

    async fn pack_row(&self, account: AccountId, pack: PackId) -> Result<Option<PackRow>, StoreError> {
        self.database
            .read(&(account, pack), |connection, (account, pack)| {
                Box::pin(pack_row(connection, *account, *pack))
            })
            .await
    }

    async fn knows_pack(&self, account: AccountId, pack: PackId) -> Result<bool, StoreError> {
        self.database
            .read(&(account, pack), |connection, (account, pack)| {
                Box::pin(async move {
                    let found = query("SELECT 1 FROM packs WHERE account = $1 AND id = $2")
                        .bind(account.0)
                        .bind(pack.0.as_slice())
                        .fetch_optional(connection)
                        .await?;
                    Ok(found.is_some())
                })
            })
            .await
    }

    async fn mark_pack(
        &self,
        account: AccountId,
        pack: PackId,
        damaged: bool,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let at = damaged.then_some(now);
        self.database
            .write((account, pack, at), |connection, (account, pack, at)| {
                Box::pin(mark(connection, *account, *pack, *at))
            })
            .await
    }

    async fn damaged_packs(&self, account: AccountId) -> Result<Vec<PackId>, StoreError> {
        self.database
            .read(&account, |connection, account| {
                Box::pin(async move {
                    let rows = query("SELECT id FROM packs WHERE account = $1 AND damaged_at IS NOT NULL")
                        .bind(account.0)
                        .fetch_all(connection)
                        .await?;
                    rows.iter().map(|row| Ok(PackId(id(row, "id")?))).collect()
                })
            })
            .await
    }

    async fn begin_scrub(
        &self,
        before: UnixMillis,
        now: UnixMillis,
    ) -> Result<Option<AccountId>, StoreError> {
        self.database
            .write((before, now), |connection, (before, now)| {
                Box::pin(begin(connection, *before, *now))
            })
            .await
    }
}

async fn record_rows(
    connection: &mut PgConnection,
    account: AccountId,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<RecordRow>, StoreError> {
    let from = int(from)?;
    let most = i64::try_from(max_bytes / RECORD_MIN + 1).unwrap_or(i64::MAX);
    // Lengths first, as for a page of records.
    let lengths =
        query("SELECT seq, bytes FROM records WHERE account = $1 AND seq >= $2 ORDER BY seq LIMIT $3")
            .bind(account.0)
            .bind(from)
            .bind(most)
            .fetch_all(&mut *connection)
            .await?;
    let Some(last) = page_end(&lengths, max_bytes)? else {
        return Ok(Vec::new());
    };
    let rows = query(
        "SELECT seq, epoch, hash, sealed FROM records WHERE account = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq",
    )
    .bind(account.0)
    .bind(from)
    .bind(last)
    .fetch_all(connection)
    .await?;
    rows.iter().map(record).collect()
}

fn record(row: &PgRow) -> Result<RecordRow, StoreError> {
    Ok(RecordRow {
        seq: number(row, "seq")?,
        epoch: number(row, "epoch")?,
        hash: RecordHash(id(row, "hash")?),
        sealed: row.try_get("sealed")?,
    })
}

async fn replaced_row(
    connection: &mut PgConnection,
    account: AccountId,
    (seq, place): (u64, i64),
) -> Result<Option<(i64, RecordRow)>, StoreError> {
    let row = query(
        "SELECT place, seq, epoch, hash, sealed FROM replaced_records
         WHERE account = $1 AND (seq, place) > ($2, $3) ORDER BY seq, place LIMIT 1",
    )
    .bind(account.0)
    .bind(int(seq)?)
    .bind(place)
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((row.try_get("place")?, record(&row)?)))
        .transpose()
}

async fn files_row(
    connection: &mut PgConnection,
    account: AccountId,
    after: i64,
) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
    let row = query(
        "SELECT version, sealed FROM files WHERE account = $1 AND version > $2 ORDER BY version LIMIT 1",
    )
    .bind(account.0)
    .bind(after)
    .fetch_optional(connection)
    .await?;
    row.map(|row| Ok((row.try_get("version")?, row.try_get("sealed")?)))
        .transpose()
}

async fn packs_above(
    connection: &mut PgConnection,
    account: AccountId,
    after: Option<PackId>,
    most: usize,
) -> Result<Vec<PackId>, StoreError> {
    let rows = query(
        "SELECT id FROM packs WHERE account = $1 AND id > $2 AND removing_at IS NULL
            AND EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.pack)
         ORDER BY id LIMIT $3",
    )
    .bind(account.0)
    .bind(after.map_or_else(Vec::new, |pack| pack.0.to_vec()))
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(PackId(id(row, "id")?))).collect()
}

async fn pack_row(
    connection: &mut PgConnection,
    account: AccountId,
    pack: PackId,
) -> Result<Option<PackRow>, StoreError> {
    let rows = query(
        "SELECT packs.bytes, packs.damaged_at IS NOT NULL AS damaged, chunks.id, chunks.\"offset\", chunks.len
         FROM packs JOIN chunks ON chunks.pack = packs.pack
         WHERE packs.account = $1 AND packs.id = $2 AND packs.removing_at IS NULL ORDER BY chunks.\"offset\"",
    )
    .bind(account.0)
    .bind(pack.0.as_slice())
    .fetch_all(connection)
    .await?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let small =
        |row: &PgRow, column| u32::try_from(number(row, column)?).map_err(|_| StoreError::corrupt(column));
    let chunk = |row: &PgRow| -> Result<ChunkEntry, StoreError> {
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

async fn mark(
    connection: &mut PgConnection,
    account: AccountId,
    pack: PackId,
    at: Option<UnixMillis>,
) -> Result<bool, StoreError> {
    accounts::lock(connection, account).await?;
    let done = query(
        "UPDATE packs SET damaged_at = $1 WHERE account = $2 AND id = $3 AND removing_at IS NULL
            AND EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.pack)",
    )
    .bind(at.map(|at| int(at.0)).transpose()?)
    .bind(account.0)
    .bind(pack.0.as_slice())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn begin(
    connection: &mut PgConnection,
    before: UnixMillis,
    now: UnixMillis,
) -> Result<Option<AccountId>, StoreError> {
    // An account that is busy elsewhere waits for the next look.
    let account: Option<i64> = scalar(
        "UPDATE accounts SET scrubbed_at = $1 WHERE account = (
            SELECT account FROM accounts WHERE coalesce(scrubbed_at, 0) < $2
            ORDER BY coalesce(scrubbed_at, 0), account LIMIT 1 FOR UPDATE SKIP LOCKED
         ) RETURNING account",
    )
    .bind(int(now.0)?)
    .bind(int(before.0)?)
    .fetch_optional(connection)
    .await?;
    Ok(account.map(AccountId))
}
