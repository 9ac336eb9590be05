//! Snapshots and the chunks they need.

use super::{
    accounts,
    cells::{hex_array, id, info, int, time},
    tail,
};
use crate::store::{AccountId, Commit, Load, Refusal, StoreError, Terms};
use backstop_protocol::{
    api::{MISSING_MAX, SnapshotInfo},
    id::{ChunkId, SnapshotId},
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

/// How many chunk ids one statement takes.
const BATCH: usize = 16_384;

pub(super) async fn commit(
    connection: &mut SqliteConnection,
    commit: &Commit,
    terms: &Terms,
) -> Result<SnapshotInfo, StoreError> {
    let mut account = accounts::load(connection, commit.account).await?;
    account.check_writer(&commit.writer)?;
    let header = &commit.header;
    if let Some(row) = named(connection, commit.account, header.snapshot).await? {
        if dropped(&row)? {
            return Err(StoreError::being_removed());
        }
        let same = row.try_get::<&[u8], _>("manifest")? == commit.commit.manifest.as_slice();
        return if same {
            info(&row)
        } else {
            Err(Refusal::BadCommit("another manifest has this snapshot's name").into())
        };
    }
    if account.timeline.is_some_and(|mine| mine != header.timeline) {
        return Err(Refusal::WrongTimeline.into());
    }
    on_chain(connection, commit).await?;
    account.take(commit.commit.manifest.len(), Load::Record, terms)?;
    let snapshot: i64 = sqlx::query_scalar(
        "INSERT INTO snapshots (account, id, base_seq, base_hash, committed_at, bytes, manifest)
         VALUES (?, ?, ?, ?, ?, 0, ?) RETURNING snapshot",
    )
    .bind(commit.account.0)
    .bind(header.snapshot.0.as_slice())
    .bind(int(header.base_seq)?)
    .bind(header.base_hash.0.as_slice())
    .bind(int(commit.now.0)?)
    .bind(commit.commit.manifest.as_slice())
    .fetch_one(&mut *connection)
    .await?;
    if let Some(parent) = commit.commit.parent {
        inherit(connection, commit, snapshot, parent).await?;
    }
    add(connection, commit, snapshot).await?;
    check_sound(connection, commit.account, snapshot).await?;
    let row = sqlx::query(
        "UPDATE snapshots SET bytes = (
            SELECT coalesce(sum(chunks.len), 0) FROM snapshot_chunks JOIN chunks USING (chunk)
            WHERE snapshot_chunks.snapshot = snapshots.snapshot
         ) WHERE snapshot = ? RETURNING *",
    )
    .bind(snapshot)
    .fetch_one(&mut *connection)
    .await?;
    account.tail = tail::measure(connection, &account).await?;
    tail::rolled_up(connection, &account).await?;
    info(&row)
}

async fn on_chain(connection: &mut SqliteConnection, commit: &Commit) -> Result<(), StoreError> {
    let found = sqlx::query("SELECT 1 FROM records WHERE account = ? AND seq = ? AND hash = ?")
        .bind(commit.account.0)
        .bind(int(commit.header.base_seq)?)
        .bind(commit.header.base_hash.0.as_slice())
        .fetch_optional(connection)
        .await?;
    if found.is_none() {
        return Err(Refusal::NotOnChain {
            seq: commit.header.base_seq,
            hash: commit.header.base_hash,
        }
        .into());
    }
    Ok(())
}

/// Takes over the parent's chunks but the removed ones. They are there: what a snapshot needs, stays.
async fn inherit(
    connection: &mut SqliteConnection,
    commit: &Commit,
    snapshot: i64,
    parent: SnapshotId,
) -> Result<(), StoreError> {
    let parent = named(connection, commit.account, parent).await?;
    let parent = parent.ok_or(Refusal::NotFound)?;
    if dropped(&parent)? {
        return Err(Refusal::NotFound.into());
    }
    sqlx::query(
        "INSERT INTO snapshot_chunks (snapshot, chunk) SELECT ?, chunk FROM snapshot_chunks WHERE snapshot = ?",
    )
    .bind(snapshot)
    .bind(parent.try_get::<i64, _>("snapshot")?)
    .execute(&mut *connection)
    .await?;
    for removed in commit.commit.removed.chunks(BATCH) {
        let gone = sqlx::query(
            "DELETE FROM snapshot_chunks WHERE snapshot = ? AND chunk IN (
                SELECT chunks.chunk FROM json_each(?) AS listed
                CROSS JOIN chunks ON chunks.account = ? AND chunks.id = unhex(listed.value)
             )",
        )
        .bind(snapshot)
        .bind(hex_array(removed.iter().map(|id| &id.0)))
        .bind(commit.account.0)
        .execute(&mut *connection)
        .await?;
        if gone.rows_affected() != u64::try_from(removed.len()).unwrap_or(u64::MAX) {
            return Err(Refusal::BadCommit("a removed chunk is none of the parent's").into());
        }
    }
    Ok(())
}

async fn add(connection: &mut SqliteConnection, commit: &Commit, snapshot: i64) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for added in commit.commit.added.chunks(BATCH) {
        let listed = hex_array(added.iter().map(|id| &id.0));
        let entered = sqlx::query(
            "INSERT INTO snapshot_chunks (snapshot, chunk) SELECT ?, chunks.chunk FROM json_each(?) AS listed
             CROSS JOIN chunks ON chunks.account = ? AND chunks.id = unhex(listed.value)
             WHERE true ORDER BY chunks.chunk ON CONFLICT DO NOTHING",
        )
        .bind(snapshot)
        .bind(&listed)
        .bind(commit.account.0)
        .execute(&mut *connection)
        .await?;
        if entered.rows_affected() == u64::try_from(added.len()).unwrap_or(u64::MAX) {
            continue;
        }
        let room = MISSING_MAX - missing.len();
        let absent = absent(connection, commit.account, listed, room).await?;
        if absent.is_empty() {
            return Err(Refusal::BadCommit("an added chunk is one of the parent's").into());
        }
        missing.extend(absent);
        if missing.len() >= MISSING_MAX {
            break;
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Refusal::ChunksMissing(missing).into())
    }
}

/// What lies in a damaged pack has to come again before a snapshot rests on it, whether it was added or inherited.
async fn check_sound(
    connection: &mut SqliteConnection,
    account: AccountId,
    snapshot: i64,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT chunks.id FROM packs CROSS JOIN chunks ON chunks.pack = packs.pack
         CROSS JOIN snapshot_chunks ON snapshot_chunks.snapshot = ? AND snapshot_chunks.chunk = chunks.chunk
         WHERE packs.account = ? AND packs.damaged_at IS NOT NULL ORDER BY chunks.id LIMIT ?",
    )
    .bind(snapshot)
    .bind(account.0)
    .bind(i64::try_from(MISSING_MAX).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    if rows.is_empty() {
        return Ok(());
    }
    let missing = rows.iter().map(|row| Ok(ChunkId(id(row, "id")?)));
    Err(Refusal::ChunksMissing(missing.collect::<Result<_, StoreError>>()?).into())
}

/// At most `most` of the listed chunks that are not there.
async fn absent(
    connection: &mut SqliteConnection,
    account: AccountId,
    listed: String,
    most: usize,
) -> Result<Vec<ChunkId>, StoreError> {
    let rows = sqlx::query(
        "SELECT unhex(listed.value) AS id FROM json_each(?) AS listed WHERE NOT EXISTS (
            SELECT 1 FROM chunks WHERE chunks.account = ? AND chunks.id = unhex(listed.value)
         ) LIMIT ?",
    )
    .bind(listed)
    .bind(account.0)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(ChunkId(id(row, "id")?))).collect()
}

pub(super) async fn listed(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<Vec<SnapshotInfo>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, base_seq, base_hash, committed_at, bytes FROM snapshots
         WHERE account = ? AND off_chain_at IS NULL AND dropped_at IS NULL ORDER BY base_seq DESC, snapshot DESC",
    )
    .bind(account.0)
    .fetch_all(connection)
    .await?;
    rows.iter().map(info).collect()
}

pub(super) async fn newest(
    connection: &mut SqliteConnection,
    account: AccountId,
) -> Result<Option<SnapshotInfo>, StoreError> {
    let row = sqlx::query(
        "SELECT id, base_seq, base_hash, committed_at, bytes FROM snapshots
         WHERE account = ? AND off_chain_at IS NULL AND dropped_at IS NULL
         ORDER BY base_seq DESC, snapshot DESC LIMIT 1",
    )
    .bind(account.0)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(info).transpose()
}

pub(super) async fn manifest(
    connection: &mut SqliteConnection,
    account: AccountId,
    snapshot: SnapshotId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row =
        sqlx::query("SELECT manifest FROM snapshots WHERE account = ? AND id = ? AND dropped_at IS NULL")
            .bind(account.0)
            .bind(snapshot.0.as_slice())
            .fetch_optional(connection)
            .await?;
    row.map(|row| row.try_get("manifest"))
        .transpose()
        .map_err(StoreError::from)
}

/// The ids of a snapshot's chunks above `after`, ascending, at most `most`.
pub(super) async fn chunks(
    connection: &mut SqliteConnection,
    account: AccountId,
    snapshot: SnapshotId,
    after: Option<ChunkId>,
    most: usize,
) -> Result<Option<Vec<ChunkId>>, StoreError> {
    let named: Option<i64> = sqlx::query_scalar(
        "SELECT snapshot FROM snapshots WHERE account = ? AND id = ? AND dropped_at IS NULL",
    )
    .bind(account.0)
    .bind(snapshot.0.as_slice())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(named) = named else {
        return Ok(None);
    };
    // No id is shorter than the empty one, which stands for none.
    let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
    let rows = sqlx::query(
        "SELECT chunks.id FROM snapshot_chunks JOIN chunks USING (chunk)
         WHERE snapshot_chunks.snapshot = ? AND chunks.id > ? ORDER BY chunks.id LIMIT ?",
    )
    .bind(named)
    .bind(after)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| id(row, "id").map(ChunkId))
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Whether it is none any more, and its rows are going.
fn dropped(row: &SqliteRow) -> Result<bool, StoreError> {
    Ok(time(row, "dropped_at")?.is_some())
}

async fn named(
    connection: &mut SqliteConnection,
    account: AccountId,
    snapshot: SnapshotId,
) -> Result<Option<SqliteRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM snapshots WHERE account = ? AND id = ?")
        .bind(account.0)
        .bind(snapshot.0.as_slice())
        .fetch_optional(connection)
        .await?;
    Ok(row)
}
