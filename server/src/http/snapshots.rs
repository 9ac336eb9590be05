//! Snapshots: commit, list, manifest, chunks.

use super::{
    App, Json, Octets,
    params::{Fields, Id},
    session::{AppendCall, ReadCall},
};
use crate::{error::ApiError, store::Commit};
use axum::extract::State;
use backstop_protocol::{
    api::{CHUNKS_PAGE, SnapshotInfo, SnapshotList},
    chunk::encode_ids,
    id::{ChunkId, SnapshotId},
    snapshot::SnapshotCommit,
};
use serde::Deserialize;
use std::sync::Arc;

pub(super) async fn commit(
    State(app): State<Arc<App>>,
    call: AppendCall,
) -> Result<Json<SnapshotInfo>, ApiError> {
    let (header, commit) = SnapshotCommit::parse(&call.body)?;
    // Both lists are sorted.
    if commit
        .removed
        .iter()
        .any(|id| commit.added.binary_search(id).is_ok())
    {
        return Err(ApiError::malformed("a chunk is added and removed"));
    }
    let info = app
        .store
        .commit_snapshot(Commit {
            account: call.account,
            writer: call.writer,
            header,
            commit,
            now: app.clock.now(),
        })
        .await?;
    app.metrics.rolled_up();
    app.housekeeping.look_at(call.account);
    Ok(Json(info))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    call: ReadCall,
) -> Result<Json<SnapshotList>, ApiError> {
    let snapshots = app.store.snapshots(call.account).await?;
    Ok(Json(SnapshotList { snapshots }))
}

pub(super) async fn manifest(
    State(app): State<Arc<App>>,
    call: ReadCall,
    Id(snapshot): Id<SnapshotId>,
) -> Result<Octets, ApiError> {
    let manifest = app.store.manifest(call.account, snapshot).await?;
    manifest
        .map(|sealed| Octets(sealed.into()))
        .ok_or(ApiError::NotFound)
}

/// `?after=ID`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    after: Option<ChunkId>,
}

pub(super) async fn chunks(
    State(app): State<Arc<App>>,
    call: ReadCall,
    Id(snapshot): Id<SnapshotId>,
    Fields(After { after }): Fields<After>,
) -> Result<Octets, ApiError> {
    let chunks = app
        .store
        .snapshot_chunks(call.account, snapshot, after, CHUNKS_PAGE)
        .await?;
    chunks
        .map(|ids| Octets(encode_ids(&ids).into()))
        .ok_or(ApiError::NotFound)
}
