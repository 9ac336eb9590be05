//! Chunks that nothing needs, and packs that hold little or nothing any more.

use super::{
    cells::{hex_array, id, int, number},
    chunks,
    history::ROWS,
};
use crate::store::{AccountId, GRACE_MS, Move, PackLoad, StoreError};
use backstop_protocol::{
    clock::UnixMillis,
    id::{ChunkId, PackId},
    pack::ENTRY_HEADER_LEN,
};
use rusqlite::{Connection, TransactionBehavior, params};
use sqlx::SqliteConnection;

/// Most chunks that go in one transaction. Their ids are random, so that each takes pages of its own with it.
const CHUNKS: u32 = 500;

/// What arrived before this moment is old enough.
fn old_at(now: UnixMillis) -> Result<i64, StoreError> {
    int(now.0.saturating_sub(GRACE_MS))
}

/// Some of the chunks that no snapshot needs; looked for beside the writer, since most looks find none.
pub(super) async fn unneeded(
    connection: &mut SqliteConnection,
    account: AccountId,
    now: UnixMillis,
) -> Result<Vec<i64>, StoreError> {
    let found = sqlx::query_scalar(
        "SELECT chunks.chunk FROM packs CROSS JOIN chunks ON chunks.pack = packs.pack
         WHERE packs.account = ? AND packs.touched_at < ?
            AND NOT EXISTS (SELECT 1 FROM snapshot_chunks WHERE snapshot_chunks.chunk = chunks.chunk)
            AND NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.account = packs.account AND held_since IS NOT NULL)
         LIMIT ?",
    )
    .bind(account.0)
    .bind(old_at(now)?)
    .bind(CHUNKS)
    .fetch_all(connection)
    .await?;
    Ok(found)
}

/// Drops those of the chunks that are still unneeded: since they were looked for, a snapshot may have named them, their
/// pack may have come again, or a proof may have failed.
pub(super) async fn drop_chunks(
    connection: &mut SqliteConnection,
    account: AccountId,
    found: &[i64],
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let found = serde_json::to_string(found).map_err(|error| StoreError::Failed(Box::new(error)))?;
    sqlx::query(
        "UPDATE packs SET freed_at = ?4 WHERE pack IN (
            SELECT chunks.pack FROM json_each(?1) AS found
            CROSS JOIN chunks ON chunks.chunk = found.value AND chunks.account = ?2
         ) AND touched_at < ?3",
    )
    .bind(&found)
    .bind(account.0)
    .bind(old_at(now)?)
    .bind(int(now.0)?)
    .execute(&mut *connection)
    .await?;
    let gone = sqlx::query(
        "DELETE FROM chunks WHERE chunk IN (
            SELECT chunks.chunk FROM json_each(?1) AS found
            CROSS JOIN chunks ON chunks.chunk = found.value AND chunks.account = ?2
            CROSS JOIN packs ON packs.pack = chunks.pack AND packs.touched_at < ?3
            WHERE NOT EXISTS (SELECT 1 FROM snapshot_chunks WHERE snapshot_chunks.chunk = chunks.chunk)
                AND NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.account = ?2 AND held_since IS NOT NULL)
         )",
    )
    .bind(&found)
    .bind(account.0)
    .bind(old_at(now)?)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected() > 0)
}

pub(super) async fn loads(
    connection: &mut SqliteConnection,
    account: AccountId,
    now: UnixMillis,
) -> Result<Vec<PackLoad>, StoreError> {
    let rows = sqlx::query(
        "SELECT packs.id, packs.bytes, sum(chunks.len + ?) AS live
         FROM packs CROSS JOIN chunks ON chunks.pack = packs.pack
         WHERE packs.account = ? AND packs.touched_at < ? AND packs.removing_at IS NULL AND packs.damaged_at IS NULL
         GROUP BY packs.pack ORDER BY live, packs.pack",
    )
    .bind(i64::try_from(ENTRY_HEADER_LEN).unwrap_or_default())
    .bind(account.0)
    .bind(old_at(now)?)
    .fetch_all(connection)
    .await?;
    let load = |row: &sqlx::sqlite::SqliteRow| -> Result<PackLoad, StoreError> {
        Ok(PackLoad {
            pack: PackId(id(row, "id")?),
            bytes: number(row, "bytes")?,
            live: number(row, "live")?,
        })
    };
    rows.iter().map(load).collect()
}

pub(super) async fn chunks_in(
    connection: &mut SqliteConnection,
    account: AccountId,
    pack: PackId,
) -> Result<Vec<ChunkId>, StoreError> {
    let rows = sqlx::query(
        "SELECT chunks.id FROM packs CROSS JOIN chunks ON chunks.pack = packs.pack
         WHERE packs.account = ? AND packs.id = ?",
    )
    .bind(account.0)
    .bind(pack.0.as_slice())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(ChunkId(id(row, "id")?))).collect()
}

/// On the connection of appends, as chunks are entered.
pub(super) fn move_chunks(connection: &mut Connection, chunks: &Move) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (account, now) = (chunks.account, chunks.now);
    let to = chunks::registered(&transaction, account, chunks.to)?;
    chunks::arrived(&transaction, account, to, now)?;
    let from = hex_array(chunks.from.iter().map(|pack| &pack.0));
    transaction
        .prepare_cached(
            "UPDATE packs SET freed_at = ?3
             WHERE account = ?1 AND id IN (SELECT unhex(value) FROM json_each(?2))",
        )?
        .execute(params![account.0, from, int(now.0)?])?;
    transaction
        .prepare_cached(
            "UPDATE chunks SET pack = ?1, offset = entry.value ->> 1 FROM json_each(?2) AS entry
             WHERE chunks.account = ?3 AND chunks.id = unhex(entry.value ->> 0)
                AND chunks.len = entry.value ->> 2
                AND chunks.pack IN (
                    SELECT pack FROM packs WHERE account = ?3 AND id IN (SELECT unhex(value) FROM json_each(?4))
                )",
        )?
        .execute(params![to, chunks::entries(&chunks.chunks)?, account.0, from])?;
    Ok(transaction.commit()?)
}

pub(super) async fn begin_removals(
    connection: &mut SqliteConnection,
    account: AccountId,
    now: UnixMillis,
) -> Result<Vec<PackId>, StoreError> {
    sqlx::query(
        "UPDATE packs SET removing_at = ?1
         WHERE account = ?2 AND removing_at IS NULL AND touched_at < ?3 AND coalesce(freed_at, 0) < ?3
            AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.pack)
            AND NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.account = ?2 AND held_since IS NOT NULL)",
    )
    .bind(int(now.0)?)
    .bind(account.0)
    .bind(old_at(now)?)
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query("SELECT id FROM packs WHERE account = ? AND removing_at IS NOT NULL LIMIT ?")
        .bind(account.0)
        .bind(ROWS)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok(PackId(id(row, "id")?))).collect()
}

pub(super) async fn is_marked(
    connection: &mut SqliteConnection,
    account: AccountId,
    pack: PackId,
) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM packs WHERE account = ? AND id = ? AND removing_at IS NOT NULL")
        .bind(account.0)
        .bind(pack.0.as_slice())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

pub(super) async fn end_removal(
    connection: &mut SqliteConnection,
    account: AccountId,
    pack: PackId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM packs WHERE account = ? AND id = ? AND removing_at IS NOT NULL")
        .bind(account.0)
        .bind(pack.0.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}
