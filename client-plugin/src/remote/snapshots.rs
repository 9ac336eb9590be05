//! Chunks, packs and snapshots (SPEC 6).

use super::{BodyFile, RemoteError, body::Body, session::Session};
use backstop_protocol::{
    api::{self, SnapshotInfo, SnapshotList},
    chunk::{ChunkPlace, encode_ids, parse_places},
    id::{ChunkId, PackId, SnapshotId},
};
use bytes::Bytes;
use reqwest::Method;
use std::time::Duration;

impl Session {
    /// Where chunks lie, in the order asked for; at most [`api::LOCATE_MAX`] ids a call.
    pub async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        let most = ids.len() * 41 + api::JSON_MAX;
        let body = self
            .call(Method::POST, api::LOCATE, encode_ids(ids).into(), most)
            .await?;
        parse_places(&body, ids.len()).map_err(|error| self.nonsense(&error))
    }

    /// Stores one pack; success means that it is durable there.
    pub async fn put_pack(&self, pack: PackId, bytes: Bytes) -> Result<(), RemoteError> {
        let (path, body) = (format!("{}/{pack}", api::PACKS), Body::Hashed(bytes, pack.0));
        self.call_patiently(Method::PUT, &path, body, api::JSON_MAX, Duration::ZERO)
            .await
            .map(drop)
    }

    /// A pack, or the bytes `(offset, length)` of it.
    pub async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        let path = match range {
            None => format!("{}/{pack}", api::PACKS),
            Some((offset, length)) => format!("{}/{pack}?offset={offset}&length={length}", api::PACKS),
        };
        self.call(Method::GET, &path, Bytes::new(), api::PACK_MAX).await
    }

    /// Makes a snapshot whose chunks are all there the newest one.
    pub async fn commit_snapshot(&self, commit: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        let body = Body::File(commit);
        let info = self.call_patiently(Method::POST, api::SNAPSHOTS, body, api::JSON_MAX, Duration::ZERO);
        serde_json::from_slice(&info.await?).map_err(|error| self.nonsense(&error))
    }

    /// The complete snapshots, newest first.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        let list: SnapshotList = self.json(Method::GET, api::SNAPSHOTS, Bytes::new()).await?;
        Ok(list.snapshots)
    }

    /// The sealed manifest of a snapshot.
    pub async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        let path = format!("{}/{snapshot}/manifest", api::SNAPSHOTS);
        self.call(Method::GET, &path, Bytes::new(), api::MANIFEST_MAX)
            .await
    }
}
