//! The index of packs and chunks.

use super::{
    accounts,
    cells::{hex_array, id, int, number},
};
use crate::store::{AccountId, ChunkEntry, PackArrival, PackIndex, StoreError, Terms};
use backstop_protocol::{
    chunk::ChunkPlace,
    clock::UnixMillis,
    id::{ChunkId, PackId},
};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use sqlx::{Row as _, SqliteConnection};

/// How many of a pack's chunks are entered in one transaction. Their ids lie all over an index, so that each takes a page of its own,
/// and the appends of all nodes wait meanwhile.
pub(super) const PIECE: usize = 32;

pub(super) async fn register(
    connection: &mut SqliteConnection,
    arrival: &PackArrival,
    terms: &Terms,
) -> Result<(), StoreError> {
    let account = accounts::load(connection, arrival.account).await?;
    if arrival.judged {
        account.take_pack(arrival.bytes, is_there(connection, arrival).await?, terms)?;
    }
    let done = sqlx::query(
        "INSERT INTO packs (account, id, bytes, received_at, touched_at) VALUES (?1, ?2, ?3, ?4, ?4)
         ON CONFLICT (account, id) DO UPDATE SET touched_at = max(touched_at, excluded.touched_at)
         WHERE removing_at IS NULL",
    )
    .bind(arrival.account.0)
    .bind(arrival.pack.0.as_slice())
    .bind(int(arrival.bytes)?)
    .bind(int(arrival.now.0)?)
    .execute(connection)
    .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::being_removed());
    }
    Ok(())
}

async fn is_there(connection: &mut SqliteConnection, arrival: &PackArrival) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM packs WHERE account = ? AND id = ?")
        .bind(arrival.account.0)
        .bind(arrival.pack.0.as_slice())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

/// The row of a pack that chunks may be entered for.
pub(super) fn registered(
    connection: &Connection,
    account: AccountId,
    pack: PackId,
) -> Result<i64, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT pack FROM packs WHERE account = ? AND id = ? AND removing_at IS NULL")?;
    let row = statement.query_one(params![account.0, pack.0], |row| row.get(0));
    row.optional()?.ok_or_else(StoreError::being_removed)
}

/// The bytes of a pack are those that its name says, again. What is damaged may lose chunks to it.
pub(super) fn arrived(
    connection: &Connection,
    account: AccountId,
    pack: i64,
    now: UnixMillis,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE packs SET damaged_at = iif(pack = ?1, NULL, damaged_at), freed_at = iif(pack = ?1, freed_at, ?2)
             WHERE account = ?3 AND damaged_at IS NOT NULL",
        )?
        .execute(params![pack, int(now.0)?, account.0])?;
    Ok(())
}

/// Chunks as SQLite takes them apart again with `json_each`: id, offset, length.
pub(super) fn entries(chunks: &[ChunkEntry]) -> Result<String, StoreError> {
    let entries: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.id, chunk.offset, chunk.len))
        .collect();
    serde_json::to_string(&entries).map_err(|error| StoreError::Failed(Box::new(error)))
}

/// Enters some chunks of a pack, on the connection of appends: among many statements each change of the thread would be felt by
/// the appends that wait.
pub(super) fn index(connection: &mut Connection, index: &PackIndex) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pack = registered(&transaction, index.account, index.pack)?;
    arrived(&transaction, index.account, pack, index.now)?;
    let chunks = entries(&index.chunks)?;
    // SQLite wants the WHERE there: without it ON would be read as a join's. A chunk leaves a damaged pack alone.
    transaction
        .prepare_cached(
            "INSERT INTO chunks (account, id, pack, offset, len)
             SELECT ?, unhex(entry.value ->> 0), ?, entry.value ->> 1, entry.value ->> 2
             FROM json_each(?) AS entry WHERE true
             ON CONFLICT (account, id) DO UPDATE SET pack = excluded.pack, offset = excluded.offset, len = excluded.len
             WHERE EXISTS (SELECT 1 FROM packs WHERE packs.pack = chunks.pack AND packs.damaged_at IS NOT NULL)",
        )?
        .execute(params![index.account.0, pack, chunks])?;
    // A chunk that lies elsewhere was just sent all the same: it must be there when the snapshot is committed.
    transaction
        .prepare_cached(
            "UPDATE packs SET touched_at = max(touched_at, ?) WHERE pack IN (
                SELECT chunks.pack FROM json_each(?) AS entry
                CROSS JOIN chunks ON chunks.account = ? AND chunks.id = unhex(entry.value ->> 0)
             )",
        )?
        .execute(params![int(index.now.0)?, chunks, index.account.0])?;
    Ok(transaction.commit()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store as _, conformance::Session, sqlite::SqliteStore};
    use getrandom::{SysRng, rand_core::UnwrapErr};

    const NOW: UnixMillis = UnixMillis(1_000_000);

    #[tokio::test]
    async fn an_append_waits_for_a_piece_of_a_pack_and_a_pack_that_was_cut_off_is_entered_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        let store = SqliteStore::open(&file, None, Terms::default(), &mut UnwrapErr(SysRng))
            .await
            .unwrap();
        let session = Session::first(&store, 1).await;
        let arrival = PackArrival {
            judged: true,
            account: session.account,
            pack: PackId([1; 32]),
            bytes: 1 << 20,
            now: NOW,
        };
        store.register_pack(arrival).await.unwrap();
        let ids: Vec<_> = (0..20 * PIECE)
            .map(|n| backstop_protocol::hash::sha256(&n.to_be_bytes()))
            .collect();
        let chunk = |(id, offset): (&[u8; 32], u32)| ChunkEntry {
            id: ChunkId(*id),
            offset,
            len: 300,
        };
        let index = PackIndex {
            account: session.account,
            pack: arrival.pack,
            chunks: ids.iter().zip((78..).step_by(336)).map(chunk).collect(),
            now: NOW,
        };
        tokio::select! {
            biased;
            indexed = store.index_pack(index.clone()) => panic!("the append still waits: {indexed:?}"),
            appended = store.append(session.next(1)) => assert_eq!(appended.unwrap().head.seq, 1),
        }
        store.index_pack(index).await.unwrap();
        let asked = ids.into_iter().map(ChunkId).collect();
        let places = store.locate(session.account, asked).await.unwrap();
        assert!(places.iter().all(Option::is_some));
        store.close().await;
    }
}
