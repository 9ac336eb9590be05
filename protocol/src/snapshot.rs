//! The clear header of a sealed manifest, and the body that commits a snapshot (SPEC 6.3, 6.4).
//!
//! ```text
//! offset  size  field
//!      0     6  magic "BKSP", version 1, kind 17
//!      6    16  timeline
//!     22    16  snapshot
//!     38     8  base_seq: the snapshot is the database as it stood after this record
//!     46    32  hash of that record
//!     78    24  nonce
//!    102     …  XChaCha20-Poly1305 of the padded content, the 102 bytes above being associated data
//! ```

use crate::{
    api::{MANIFEST_MAX, PADDED_MIN},
    bytes::{Malformed, Reader, kind, preamble},
    id::{ChunkId, RecordHash, SnapshotId, TimelineId},
    record::TAG_LEN,
};

/// Bytes of a manifest's header, which is the associated data of its seal.
pub const MANIFEST_HEADER_LEN: usize = 102;

/// The clear part of a manifest: what ties a snapshot to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestHeader {
    /// The history the snapshot belongs to.
    pub timeline: TimelineId,
    /// The snapshot's name.
    pub snapshot: SnapshotId,
    /// The record after which the database stood as the snapshot has it.
    pub base_seq: u64,
    /// Hash of that record.
    pub base_hash: RecordHash,
    /// Random nonce of the seal.
    pub nonce: [u8; 24],
}

impl ManifestHeader {
    /// The 102 bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MANIFEST_HEADER_LEN);
        out.extend_from_slice(&preamble(kind::MANIFEST));
        out.extend_from_slice(&self.timeline.0);
        out.extend_from_slice(&self.snapshot.0);
        out.extend_from_slice(&self.base_seq.to_be_bytes());
        out.extend_from_slice(&self.base_hash.0);
        out.extend_from_slice(&self.nonce);
        out
    }

    /// Reads the header of a sealed manifest.
    pub fn parse(sealed: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(sealed);
        reader.preamble(kind::MANIFEST)?;
        let header = Self {
            timeline: TimelineId(reader.array()?),
            snapshot: SnapshotId(reader.array()?),
            base_seq: reader.u64()?,
            base_hash: RecordHash(reader.array()?),
            nonce: reader.array()?,
        };
        if reader.rest().len() < PADDED_MIN + TAG_LEN {
            return Err(Malformed::Short);
        }
        if sealed.len() > MANIFEST_MAX {
            return Err(Malformed::Field("manifest length"));
        }
        if header.base_seq == 0 || i64::try_from(header.base_seq).is_err() {
            return Err(Malformed::Field("base_seq"));
        }
        Ok(header)
    }
}

/// The body of `POST /v1/snapshots`: the sealed manifest and the plain, sorted list of the chunks it needs, as a
/// difference to `parent` where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotCommit {
    /// The sealed manifest.
    pub manifest: Vec<u8>,
    /// The snapshot whose list of chunks this one's is a difference to.
    pub parent: Option<SnapshotId>,
    /// Chunks of this snapshot that the parent does not have; sorted, each once.
    pub added: Vec<ChunkId>,
    /// Chunks of the parent that this snapshot does not have; sorted, each once.
    pub removed: Vec<ChunkId>,
}

impl SnapshotCommit {
    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids = (self.added.len() + self.removed.len()) * ChunkId::LEN;
        let mut out = Vec::with_capacity(self.manifest.len() + ids + 29);
        put_count(&mut out, self.manifest.len());
        out.extend_from_slice(&self.manifest);
        match self.parent {
            None => out.push(0),
            Some(parent) => {
                out.push(1);
                out.extend_from_slice(&parent.0);
            }
        }
        for list in [&self.added, &self.removed] {
            put_count(&mut out, list.len());
            for id in list {
                out.extend_from_slice(&id.0);
            }
        }
        out
    }

    /// Reads the body, with its manifest's header.
    pub fn parse(body: &[u8]) -> Result<(ManifestHeader, Self), Malformed> {
        let mut reader = Reader::new(body);
        let manifest = reader.blob()?.to_vec();
        let header = ManifestHeader::parse(&manifest)?;
        let parent = match reader.u8()? {
            0 => None,
            1 => Some(SnapshotId(reader.array()?)),
            _ => return Err(Malformed::Field("parent")),
        };
        let added = sorted_ids(&mut reader)?;
        let removed = sorted_ids(&mut reader)?;
        reader.end()?;
        if parent.is_none() && !removed.is_empty() {
            return Err(Malformed::Field("removed chunks: there is no parent"));
        }
        Ok((
            header,
            Self {
                manifest,
                parent,
                added,
                removed,
            },
        ))
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn sorted_ids(reader: &mut Reader<'_>) -> Result<Vec<ChunkId>, Malformed> {
    let count = usize::try_from(reader.u32()?).map_err(|_| Malformed::Short)?;
    let bytes = reader.take(count.checked_mul(ChunkId::LEN).ok_or(Malformed::Short)?)?;
    let ids = crate::chunk::parse_ids(bytes, count)?;
    // The order must not tell the server where in the file a chunk lies.
    if ids.windows(2).all(|pair| matches!(pair, [a, b] if a < b)) {
        Ok(ids)
    } else {
        Err(Malformed::Field(
            "chunk ids: not sorted, or one stands there twice",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> ManifestHeader {
        ManifestHeader {
            timeline: TimelineId([1; 16]),
            snapshot: SnapshotId([2; 16]),
            base_seq: 7,
            base_hash: RecordHash([3; 32]),
            nonce: [4; 24],
        }
    }

    fn commit(added: Vec<ChunkId>, removed: Vec<ChunkId>, parent: Option<SnapshotId>) -> SnapshotCommit {
        let mut manifest = header().encode();
        assert_eq!(manifest.len(), MANIFEST_HEADER_LEN);
        manifest.resize(MANIFEST_HEADER_LEN + PADDED_MIN + TAG_LEN, 0);
        SnapshotCommit {
            manifest,
            parent,
            added,
            removed,
        }
    }

    #[test]
    fn a_commit_is_read_as_it_was_written() {
        let ids = vec![ChunkId([1; 32]), ChunkId([2; 32])];
        for whole in [
            commit(ids.clone(), vec![], None),
            commit(vec![], ids, Some(SnapshotId([9; 16]))),
        ] {
            assert_eq!(SnapshotCommit::parse(&whole.encode()), Ok((header(), whole)));
        }
    }

    #[test]
    fn a_commit_that_would_tell_the_order_is_refused() {
        let unsorted = vec![ChunkId([2; 32]), ChunkId([1; 32])];
        let twice = vec![ChunkId([2; 32]), ChunkId([2; 32])];
        for ids in [unsorted, twice] {
            assert!(SnapshotCommit::parse(&commit(ids, vec![], None).encode()).is_err());
        }
        let orphan = commit(vec![], vec![ChunkId([1; 32])], None);
        assert!(SnapshotCommit::parse(&orphan.encode()).is_err());
    }

    proptest! {
        #[test]
        fn no_cut_and_no_flip_makes_the_parser_panic(at in 0_usize..500, flip in any::<u8>(), cut in 0_usize..500) {
            let mut bytes = commit(vec![ChunkId([1; 32])], vec![], Some(SnapshotId([9; 16]))).encode();
            if let Some(byte) = bytes.get_mut(at) { *byte ^= flip; }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = SnapshotCommit::parse(&bytes);
        }
    }
}
