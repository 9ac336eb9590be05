//! Snapshots and the chunks they need.

use super::{
    accounts,
    cells::{id, ids, info, int, query, scalar, time},
    tail,
};
use crate::store::{AccountId, Commit, Load, Refusal, StoreError, Terms};
use backstop_protocol::{
    api::{MISSING_MAX, SnapshotInfo},
    id::{ChunkId, SnapshotId},
};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

/// How many chunk ids one statement takes.
const BATCH: usize = 16_384;

pub(super) async fn commit(
    connection: &mut PgConnection,
    commit: &Commit,
    terms: &Terms,
) -> Result<SnapshotInfo, StoreError> {
    let mut account = accounts::lock(connection, commit.account).await?;
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
    let snapshot: i64 = scalar(
        "INSERT INTO snapshots (account, id, base_seq, base_hash, committed_at, bytes, manifest)
         VALUES ($1, $2, $3, $4, $5, 0, $6) RETURNING snapshot",
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
    let row = query(
        "UPDATE snapshots SET bytes = (
            SELECT coalesce(sum(chunks.len), 0)::bigint FROM snapshot_chunks JOIN chunks USING (chunk)
            WHERE snapshot_chunks.snapshot = snapshots.snapshot
         ) WHERE snapshot = $1 RETURNING id, base_seq, base_hash, committed_at, bytes",
    )
    .bind(snapshot)
    .fetch_one(&mut *connection)
    .await?;
    account.tail = tail::measure(connection, &account).await?;
    tail::rolled_up(connection, &account).await?;
    info(&row)
}

async fn on_chain(connection: &mut PgConnection, commit: &Commit) -> Result<(), StoreError> {
    let found = query("SELECT 1 FROM records WHERE account = $1 AND seq = $2 AND hash = $3")
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
    connection: &mut PgConnection,
    commit: &Commit,
    snapshot: i64,
    parent: SnapshotId,
) -> Result<(), StoreError> {
    let parent = named(connection, commit.account, parent).await?;
    let parent = parent.ok_or(Refusal::NotFound)?;
    if dropped(&parent)? {
        return Err(Refusal::NotFound.into());
    }
    query(
        "INSERT INTO snapshot_chunks (snapshot, chunk) SELECT $1, chunk FROM snapshot_chunks WHERE snapshot = $2",
    )
    .bind(snapshot)
    .bind(parent.try_get::<i64, _>("snapshot")?)
    .execute(&mut *connection)
    .await?;
    for removed in commit.commit.removed.chunks(BATCH) {
        let gone = query(
            "DELETE FROM snapshot_chunks USING chunks
             WHERE snapshot_chunks.snapshot = $1 AND chunks.chunk = snapshot_chunks.chunk
                AND chunks.account = $2 AND chunks.id = ANY($3)",
        )
        .bind(snapshot)
        .bind(commit.account.0)
        .bind(ids(removed))
        .execute(&mut *connection)
        .await?;
        if gone.rows_affected() != u64::try_from(removed.len()).unwrap_or(u64::MAX) {
            return Err(Refusal::BadCommit("a removed chunk is none of the parent's").into());
        }
    }
    Ok(())
}

async fn add(connection: &mut PgConnection, commit: &Commit, snapshot: i64) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for added in commit.commit.added.chunks(BATCH) {
        let entered = query(
            "INSERT INTO snapshot_chunks (snapshot, chunk)
             SELECT $1, chunks.chunk FROM chunks WHERE chunks.account = $2 AND chunks.id = ANY($3)
             ORDER BY chunks.chunk ON CONFLICT DO NOTHING",
        )
        .bind(snapshot)
        .bind(commit.account.0)
        .bind(ids(added))
        .execute(&mut *connection)
        .await?;
        if entered.rows_affected() == u64::try_from(added.len()).unwrap_or(u64::MAX) {
            continue;
        }
        let room = MISSING_MAX - missing.len();
        let absent = absent(connection, commit.account, added, room).await?;
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
    connection: &mut PgConnection,
    account: AccountId,
    snapshot: i64,
) -> Result<(), StoreError> {
    let rows = query(
        "SELECT chunks.id FROM packs JOIN chunks ON chunks.pack = packs.pack
         JOIN snapshot_chunks ON snapshot_chunks.snapshot = $1 AND snapshot_chunks.chunk = chunks.chunk
         WHERE packs.account = $2 AND packs.damaged_at IS NOT NULL ORDER BY chunks.id LIMIT $3",
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

/// At most `most` of the listed chunks that are not there, in their order.
async fn absent(
    connection: &mut PgConnection,
    account: AccountId,
    listed: &[ChunkId],
    most: usize,
) -> Result<Vec<ChunkId>, StoreError> {
    let rows = query(
        "SELECT listed.id FROM unnest($1::bytea[]) WITH ORDINALITY AS listed (id, at) WHERE NOT EXISTS (
            SELECT 1 FROM chunks WHERE chunks.account = $2 AND chunks.id = listed.id
         ) ORDER BY listed.at LIMIT $3",
    )
    .bind(ids(listed))
    .bind(account.0)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(ChunkId(id(row, "id")?))).collect()
}

pub(super) async fn listed(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Vec<SnapshotInfo>, StoreError> {
    let rows = query(
        "SELECT id, base_seq, base_hash, committed_at, bytes FROM snapshots
         WHERE account = $1 AND off_chain_at IS NULL AND dropped_at IS NULL ORDER BY base_seq DESC, snapshot DESC",
    )
    .bind(account.0)
    .fetch_all(connection)
    .await?;
    rows.iter().map(info).collect()
}

pub(super) async fn newest(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Option<SnapshotInfo>, StoreError> {
    let row = query(
        "SELECT id, base_seq, base_hash, committed_at, bytes FROM snapshots
         WHERE account = $1 AND off_chain_at IS NULL AND dropped_at IS NULL
         ORDER BY base_seq DESC, snapshot DESC LIMIT 1",
    )
    .bind(account.0)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(info).transpose()
}

pub(super) async fn manifest(
    connection: &mut PgConnection,
    account: AccountId,
    snapshot: SnapshotId,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(
        scalar("SELECT manifest FROM snapshots WHERE account = $1 AND id = $2 AND dropped_at IS NULL")
            .bind(account.0)
            .bind(snapshot.0.as_slice())
            .fetch_optional(connection)
            .await?,
    )
}

/// The ids of a snapshot's chunks above `after`, ascending, at most `most`.
pub(super) async fn chunks(
    connection: &mut PgConnection,
    account: AccountId,
    snapshot: SnapshotId,
    after: Option<ChunkId>,
    most: usize,
) -> Result<Option<Vec<ChunkId>>, StoreError> {
    let named: Option<i64> =
        scalar("SELECT snapshot FROM snapshots WHERE account = $1 AND id = $2 AND dropped_at IS NULL")
            .bind(account.0)
            .bind(snapshot.0.as_slice())
            .fetch_optional(&mut *connection)
            .await?;
    let Some(named) = named else {
        return Ok(None);
    };
    // No id is shorter than the empty one, which stands for none.
    let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
    let rows = query(
        "SELECT chunks.id FROM snapshot_chunks JOIN chunks USING (chunk)
         WHERE snapshot_chunks.snapshot = $1 AND chunks.id > $2 ORDER BY chunks.id LIMIT $3",
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
fn dropped(row: &PgRow) -> Result<bool, StoreError> {
    Ok(time(row, "dropped_at")?.is_some())
}

async fn named(
    connection: &mut PgConnection,
    account: AccountId,
    snapshot: SnapshotId,
) -> Result<Option<PgRow>, StoreError> {
    Ok(query("SELECT * FROM snapshots WHERE account = $1 AND id = $2")
        .bind(account.0)
        .bind(snapshot.0.as_slice())
        .fetch_optional(connection)
        .await?)
}
