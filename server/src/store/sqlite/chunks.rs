//! The index of packs and chunks.

use super::cells::{hex_array, id, int, number};
use crate::store::{AccountId, PackIndex, StoreError};
use backstop_protocol::{
    chunk::ChunkPlace,
    id::{ChunkId, PackId},
};
use sqlx::{Row as _, SqliteConnection};

pub(super) async fn index(connection: &mut SqliteConnection, index: &PackIndex) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO packs (account, id, bytes, received_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(index.account.0)
    .bind(index.pack.0.as_slice())
    .bind(int(index.bytes)?)
    .bind(int(index.now.0)?)
    .execute(&mut *connection)
    .await?;
    let chunks: Vec<_> = index
        .chunks
        .iter()
        .map(|chunk| (chunk.id, chunk.offset, chunk.len))
        .collect();
    let chunks = serde_json::to_string(&chunks).map_err(|error| StoreError::Failed(Box::new(error)))?;
    // SQLite wants the WHERE there: without it ON would be read as a join's.
    sqlx::query(
        "INSERT INTO chunks (account, id, pack, offset, len)
         SELECT packs.account, unhex(entry.value ->> 0), packs.pack, entry.value ->> 1, entry.value ->> 2
         FROM json_each(?) AS entry, packs WHERE packs.account = ? AND packs.id = ?
         ON CONFLICT (account, id) DO NOTHING",
    )
    .bind(chunks)
    .bind(index.account.0)
    .bind(index.pack.0.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn locate(
    connection: &mut SqliteConnection,
    account: AccountId,
    ids: &[ChunkId],
) -> Result<Vec<Option<ChunkPlace>>, StoreError> {
    let rows = sqlx::query(
        "SELECT asked.key, packs.id, chunks.offset, chunks.len FROM json_each(?) AS asked
         CROSS JOIN chunks ON chunks.account = ? AND chunks.id = unhex(asked.value)
         JOIN packs ON packs.pack = chunks.pack",
    )
    .bind(hex_array(ids.iter().map(|id| &id.0)))
    .bind(account.0)
    .fetch_all(connection)
    .await?;
    let mut places = vec![None; ids.len()];
    for row in &rows {
        let at = usize::try_from(row.try_get::<i64, _>("key")?).map_err(|_| StoreError::corrupt("key"))?;
        let small = |column| u32::try_from(number(row, column)?).map_err(|_| StoreError::corrupt(column));
        if let Some(place) = places.get_mut(at) {
            *place = Some(ChunkPlace {
                pack: PackId(id(row, "id")?),
                offset: small("offset")?,
                len: small("len")?,
            });
        }
    }
    Ok(places)
}
