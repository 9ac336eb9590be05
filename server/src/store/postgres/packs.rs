//! Chunks that nothing needs, and packs that hold little or nothing any more.

use super::{
    accounts,
    cells::{id, int, number, query, scalar},
    chunks,
    history::ROWS,
};
use crate::store::{AccountId, GRACE_MS, Move, PackLoad, Removal, StoreError};
use async_trait::async_trait;
use backstop_protocol::{
    clock::UnixMillis,
    id::{ChunkId, PackId},
    pack::ENTRY_HEADER_LEN,
};
use sqlx::{PgConnection, Postgres, Transaction};

/// Most chunks that go in one transaction. Their ids are random, so that each takes pages of its own with it.
const CHUNKS: i64 = 500;

/// What arrived before this moment is old enough.
fn old_at(now: UnixMillis) -> Result<i64, StoreError> {
    int(now.0.saturating_sub(GRACE_MS))
}

/// Some of the chunks that no snapshot needs; looked for without the account's lock, since most looks find none.
pub(super) async fn unneeded(
    connection: &mut PgConnection,
    account: AccountId,
    now: UnixMillis,
) -> Result<Vec<i64>, StoreError> {
    Ok(scalar(
        "SELECT chunks.chunk FROM packs JOIN chunks ON chunks.pack = packs.pack
         WHERE packs.account = $1 AND packs.touched_at < $2
            AND NOT EXISTS (SELECT 1 FROM snapshot_chunks WHERE snapshot_chunks.chunk = chunks.chunk)
            AND NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.account = packs.account AND held_since IS NOT NULL)
         LIMIT $3",
    )
    .bind(account.0)
    .bind(old_at(now)?)
    .bind(CHUNKS)
    .fetch_all(connection)
    .await?)
}

/// Drops those of the chunks that are still unneeded: since they were looked for, a snapshot may have named them, their
/// pack may have come again, or a proof may have failed.
pub(super) async fn drop_chunks(
    connection: &mut PgConnection,
    account: AccountId,
    found: &[i64],
    now: UnixMillis,
) -> Result<bool, StoreError> {
    if accounts::lock(connection, account).await?.held_since.is_some() {
        return Ok(false);
    }
    query(
        "UPDATE packs SET freed_at = $4 WHERE pack IN (
            SELECT chunks.pack FROM chunks WHERE chunks.chunk = ANY($1) AND chunks.account = $2
         ) AND touched_at < $3",
    )
    .bind(found)
    .bind(account.0)
    .bind(old_at(now)?)
    .bind(int(now.0)?)
    .execute(&mut *connection)
    .await?;
    let gone = query(
        "DELETE FROM chunks USING packs
         WHERE chunks.chunk = ANY($1) AND chunks.account = $2 AND packs.pack = chunks.pack AND packs.touched_at < $3
            AND NOT EXISTS (SELECT 1 FROM snapshot_chunks WHERE snapshot_chunks.chunk = chunks.chunk)",
    )
    .bind(found)
    .bind(account.0)
    .bind(old_at(now)?)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected() > 0)
}

pub(super) async fn loads(
    connection: &mut PgConnection,
    account: AccountId,
    now: UnixMillis,
) -> Result<Vec<PackLoad>, StoreError> {
    let rows = query(
        "SELECT packs.id, packs.bytes, sum(chunks.len + $1)::bigint AS live
         FROM packs JOIN chunks ON chunks.pack = packs.pack
         WHERE packs.account = $2 AND packs.touched_at < $3 AND packs.removing_at IS NULL AND packs.damaged_at IS NULL
         GROUP BY packs.pack ORDER BY live, packs.pack",
    )
    .bind(i64::try_from(ENTRY_HEADER_LEN).unwrap_or_default())
    .bind(account.0)
    .bind(old_at(now)?)
    .fetch_all(connection)
    .await?;
    let load = |row| -> Result<PackLoad, StoreError> {
        Ok(PackLoad {
            pack: PackId(id(row, "id")?),
            bytes: number(row, "bytes")?,
            live: number(row, "live")?,
        })
    };
    rows.iter().map(load).collect()
}

pub(super) async fn chunks_in(
    connection: &mut PgConnection,
    account: AccountId,
    pack: PackId,
) -> Result<Vec<ChunkId>, StoreError> {
    let rows = query(
        "SELECT chunks.id FROM packs JOIN chunks ON chunks.pack = packs.pack
         WHERE packs.account = $1 AND packs.id = $2",
    )
    .bind(account.0)
    .bind(pack.0.as_slice())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(ChunkId(id(row, "id")?))).collect()
}

pub(super) async fn move_chunks(connection: &mut PgConnection, moved: &Move) -> Result<(), StoreError> {
    accounts::lock(connection, moved.account).await?;
    let to = chunks::registered(connection, moved.account, moved.to).await?;
    chunks::arrived(connection, moved.account, to, moved.now).await?;
    let from: Vec<_> = moved.from.iter().map(|pack| pack.0.as_slice()).collect();
    // One that is going has no chunks left, and whoever has its row may wait for this account.
    query("UPDATE packs SET freed_at = $3 WHERE account = $1 AND id = ANY($2) AND removing_at IS NULL")
        .bind(moved.account.0)
        .bind(&from)
        .bind(int(moved.now.0)?)
        .execute(&mut *connection)
        .await?;
    let (ids, offsets, lengths) = chunks::columns(&moved.chunks);
    query(
        "UPDATE chunks SET pack = $1, \"offset\" = entry.\"offset\"
         FROM unnest($2::bytea[], $3::bigint[], $4::bigint[]) AS entry (id, \"offset\", len)
         WHERE chunks.account = $5 AND chunks.id = entry.id AND chunks.len = entry.len
            AND chunks.pack IN (SELECT pack FROM packs WHERE account = $5 AND id = ANY($6))",
    )
    .bind(to)
    .bind(ids)
    .bind(offsets)
    .bind(lengths)
    .bind(moved.account.0)
    .bind(from)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn begin_removals(
    connection: &mut PgConnection,
    account: AccountId,
    now: UnixMillis,
) -> Result<Vec<PackId>, StoreError> {
    if accounts::lock(connection, account).await?.held_since.is_none() {
        query(
            "UPDATE packs SET removing_at = $1
             WHERE account = $2 AND removing_at IS NULL AND touched_at < $3 AND coalesce(freed_at, 0) < $3
                AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.pack)",
        )
        .bind(int(now.0)?)
        .bind(account.0)
        .bind(old_at(now)?)
        .execute(&mut *connection)
        .await?;
    }
    let rows =
        query("SELECT id FROM packs WHERE account = $1 AND removing_at IS NOT NULL ORDER BY pack LIMIT $2")
            .bind(account.0)
            .bind(i64::from(ROWS))
            .fetch_all(connection)
            .await?;
    rows.iter().map(|row| Ok(PackId(id(row, "id")?))).collect()
}

/// A marked pack whose row is ours until the transaction ends.
struct Held {
    transaction: Transaction<'static, Postgres>,
    account: AccountId,
    pack: PackId,
}

/// The row stays locked while the file is removed: no other process removes the file of a pack that was stored again
/// meanwhile, and none forgets the row while the file may still go.
pub(super) async fn hold(
    mut transaction: Transaction<'static, Postgres>,
    account: AccountId,
    pack: PackId,
) -> Result<Option<Box<dyn Removal>>, StoreError> {
    // However long the removal takes: without the lock it would not be safe to go on.
    sqlx::raw_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        .execute(&mut *transaction)
        .await?;
    let marked = query(
        "SELECT 1 FROM packs WHERE account = $1 AND id = $2 AND removing_at IS NOT NULL FOR UPDATE SKIP LOCKED",
    )
    .bind(account.0)
    .bind(pack.0.as_slice())
    .fetch_optional(&mut *transaction)
    .await?;
    if marked.is_none() {
        transaction.rollback().await?;
        return Ok(None);
    }
    Ok(Some(Box::new(Held {
        transaction,
        account,
        pack,
    })))
}

#[async_trait]
impl Removal for Held {
    async fn end(mut self: Box<Self>) -> Result<(), StoreError> {
        query("DELETE FROM packs WHERE account = $1 AND id = $2 AND removing_at IS NOT NULL")
            .bind(self.account.0)
            .bind(self.pack.0.as_slice())
            .execute(&mut *self.transaction)
            .await?;
        Ok(self.transaction.commit().await?)
    }
}
