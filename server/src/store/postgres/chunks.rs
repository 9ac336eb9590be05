//! The index of packs and chunks.

use super::{
    accounts,
    cells::{id, ids, int, number, query, scalar},
};
use crate::store::{AccountId, ChunkEntry, PackArrival, PackIndex, StoreError, Terms};
use backstop_protocol::{
    chunk::ChunkPlace,
    clock::UnixMillis,
    id::{ChunkId, PackId},
};
use sqlx::PgConnection;

pub(super) async fn register(
    connection: &mut PgConnection,
    arrival: &PackArrival,
    terms: &Terms,
) -> Result<(), StoreError> {
    let account = accounts::lock(connection, arrival.account).await?;
    // The mark is looked at first: whoever removes the pack has its row, and nobody waits for that with an account in hand.
    let marked: Option<bool> =
        scalar("SELECT removing_at IS NOT NULL FROM packs WHERE account = $1 AND id = $2")
            .bind(arrival.account.0)
            .bind(arrival.pack.0.as_slice())
            .fetch_optional(&mut *connection)
            .await?;
    if marked == Some(true) {
        return Err(StoreError::being_removed());
    }
    if arrival.judged {
        account.take_pack(arrival.bytes, marked.is_some(), terms)?;
    }
    query(
        "INSERT INTO packs (account, id, bytes, received_at, touched_at) VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT (account, id) DO UPDATE SET touched_at = greatest(packs.touched_at, excluded.touched_at)",
    )
    .bind(arrival.account.0)
    .bind(arrival.pack.0.as_slice())
    .bind(int(arrival.bytes)?)
    .bind(int(arrival.now.0)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// The row of a pack that chunks may be entered for.
pub(super) async fn registered(
    connection: &mut PgConnection,
    account: AccountId,
    pack: PackId,
) -> Result<i64, StoreError> {
    let row = scalar("SELECT pack FROM packs WHERE account = $1 AND id = $2 AND removing_at IS NULL")
        .bind(account.0)
        .bind(pack.0.as_slice())
        .fetch_optional(connection)
        .await?;
    row.ok_or_else(StoreError::being_removed)
}

/// The bytes of a pack are those that its name says, again. What is damaged may lose chunks to it.
pub(super) async fn arrived(
    connection: &mut PgConnection,
    account: AccountId,
    pack: i64,
    now: UnixMillis,
) -> Result<(), StoreError> {
    query(
        "UPDATE packs SET damaged_at = CASE WHEN pack = $1 THEN NULL ELSE damaged_at END,
            freed_at = CASE WHEN pack = $1 THEN freed_at ELSE $2 END
         WHERE account = $3 AND damaged_at IS NOT NULL",
    )
    .bind(pack)
    .bind(int(now.0)?)
    .bind(account.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Chunks, column by column: id, offset, length.
pub(super) fn columns(chunks: &[ChunkEntry]) -> (Vec<&[u8]>, Vec<i64>, Vec<i64>) {
    (
        chunks.iter().map(|chunk| chunk.id.0.as_slice()).collect(),
        chunks.iter().map(|chunk| chunk.offset.into()).collect(),
        chunks.iter().map(|chunk| chunk.len.into()).collect(),
    )
}

pub(super) async fn index(connection: &mut PgConnection, index: &PackIndex) -> Result<(), StoreError> {
    accounts::lock(connection, index.account).await?;
    let pack = registered(connection, index.account, index.pack).await?;
    arrived(connection, index.account, pack, index.now).await?;
    let (ids, offsets, lengths) = columns(&index.chunks);
    query(
        "INSERT INTO chunks (account, id, pack, \"offset\", len)
         SELECT $1, entry.id, $2, entry.\"offset\", entry.len
         FROM unnest($3::bytea[], $4::bigint[], $5::bigint[]) AS entry (id, \"offset\", len)
         ON CONFLICT (account, id) DO UPDATE SET pack = excluded.pack, \"offset\" = excluded.\"offset\", len = excluded.len
         WHERE EXISTS (SELECT 1 FROM packs WHERE packs.pack = chunks.pack AND packs.damaged_at IS NOT NULL)",
    )
    .bind(index.account.0)
    .bind(pack)
    .bind(&ids)
    .bind(offsets)
    .bind(lengths)
    .execute(&mut *connection)
    .await?;
    // A chunk that lies elsewhere was just sent all the same: it must be there when the snapshot is committed.
    query(
        "UPDATE packs SET touched_at = greatest(touched_at, $1) WHERE pack IN (
            SELECT chunks.pack FROM chunks WHERE chunks.account = $2 AND chunks.id = ANY($3)
         )",
    )
    .bind(int(index.now.0)?)
    .bind(index.account.0)
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn locate(
    connection: &mut PgConnection,
    account: AccountId,
    asked: &[ChunkId],
) -> Result<Vec<Option<ChunkPlace>>, StoreError> {
    let rows = query(
        "SELECT asked.at, packs.id, chunks.\"offset\", chunks.len
         FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (id, at)
         JOIN chunks ON chunks.account = $2 AND chunks.id = asked.id
         JOIN packs ON packs.pack = chunks.pack",
    )
    .bind(ids(asked))
    .bind(account.0)
    .fetch_all(connection)
    .await?;
    let mut places = vec![None; asked.len()];
    for row in &rows {
        let at = usize::try_from(number(row, "at")?).map_err(|_| StoreError::corrupt("at"))?;
        let small = |column| u32::try_from(number(row, column)?).map_err(|_| StoreError::corrupt(column));
        // Ordinality counts from 1.
        if let Some(place) = at.checked_sub(1).and_then(|at| places.get_mut(at)) {
            *place = Some(ChunkPlace {
                pack: PackId(id(row, "id")?),
                offset: small("offset")?,
                len: small("len")?,
            });
        }
    }
    Ok(places)
}
