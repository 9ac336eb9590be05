//! What ties the chunks of a snapshot together, in order, and the snapshot to the chain (SPEC 6.3).
//!
//! ```text
//! sealed   header (102, associated data) || XChaCha20-Poly1305(manifest key, nonce, padded)
//! padded   length of the content (u32) || content || zeros
//! content  data_version (u64) || database length (u64) || chunk length (u32)
//!          || length of the policy (u32) || policy || number of list chunks (u32) || their ids
//! ```
//!
//! Only here stands the order of the chunks: what the server sees is sorted.

use super::chunk::{CHUNK_LEN, LIST_IDS};
use crate::{keys::ManifestKey, record::padding::padded};
use backstop_protocol::{
    api::MANIFEST_MAX,
    bytes::{Malformed, Reader},
    chunk::parse_ids,
    id::{ChunkId, RecordHash, SnapshotId, TimelineId},
    snapshot::{MANIFEST_HEADER_LEN, ManifestHeader},
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand_core::CryptoRng;

/// Where in a chain a snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The history.
    pub timeline: TimelineId,
    /// The record after which the database stood so; at least 1.
    pub seq: u64,
    /// Hash of that record.
    pub hash: RecordHash,
}

/// A snapshot's sealed description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The snapshot's name.
    pub snapshot: SnapshotId,
    /// Where in the chain it stands.
    pub base: Base,
    /// CLN's counter in the database.
    pub data_version: u64,
    /// Length of the database file, bytes; above zero.
    pub database_len: u64,
    /// The content of the last policy record up to the base, where there was one: the log below may be gone.
    pub policy: Option<Vec<u8>>,
    /// The list chunks, in file order.
    pub lists: Vec<ChunkId>,
}

/// Why a manifest was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// The clear header is not one, or the content is not what SPEC says.
    #[error("the manifest is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The seal does not hold: damaged, or another node's.
    #[error("the manifest's seal does not hold")]
    Seal,
}

impl Manifest {
    /// Seals the manifest under a fresh nonce. [`Malformed`] where it is longer than a server takes, or does not
    /// describe a database: what could not be opened again is not sealed.
    pub fn seal(&self, key: &ManifestKey, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Malformed> {
        self.check()?;
        let content = self.content();
        let mut body = Vec::with_capacity(padded(4 + content.len()));
        put_len(&mut body, content.len());
        body.extend_from_slice(&content);
        body.resize(padded(body.len()), 0);

        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let header = ManifestHeader {
            timeline: self.base.timeline,
            snapshot: self.snapshot,
            base_seq: self.base.seq,
            base_hash: self.base.hash,
            nonce,
        };
        let mut sealed = header.encode();
        let payload = Payload {
            msg: &body,
            aad: &sealed,
        };
        // The cipher refuses nothing below 256 GiB.
        let body = cipher(key)
            .encrypt(&XNonce::from(nonce), payload)
            .unwrap_or_default();
        sealed.extend(body);
        // What the reader refuses, a length out of bounds above all.
        ManifestHeader::parse(&sealed)?;
        Ok(sealed)
    }

    /// Opens a sealed manifest and checks that it describes a database.
    pub fn open(key: &ManifestKey, sealed: &[u8]) -> Result<Self, BadManifest> {
        let header = ManifestHeader::parse(sealed)?;
        let (aad, body) = sealed
            .split_at_checked(MANIFEST_HEADER_LEN)
            .ok_or(Malformed::Short)?;
        let payload = Payload { msg: body, aad };
        let body = cipher(key)
            .decrypt(&XNonce::from(header.nonce), payload)
            .map_err(|_| BadManifest::Seal)?;

        let mut reader = Reader::new(&body);
        let content = reader.blob()?;
        if body.len() != padded(4 + content.len()) || reader.rest().iter().any(|byte| *byte != 0) {
            return Err(Malformed::Field("padding").into());
        }
        let manifest = Self::parse(&header, content)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Number of data chunks that the database has.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.database_len.div_ceil(CHUNK_LEN as u64)
    }

    fn content(&self) -> Vec<u8> {
        let policy = self.policy.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(28 + policy.len() + self.lists.len() * ChunkId::LEN);
        out.extend_from_slice(&self.data_version.to_be_bytes());
        out.extend_from_slice(&self.database_len.to_be_bytes());
        put_len(&mut out, CHUNK_LEN);
        put_len(&mut out, policy.len());
        out.extend_from_slice(policy);
        put_len(&mut out, self.lists.len());
        for id in &self.lists {
            out.extend_from_slice(&id.0);
        }
        out
    }

    fn parse(header: &ManifestHeader, content: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(content);
        let data_version = reader.u64()?;
        let database_len = reader.u64()?;
        // The one length of this version; the field lets another version choose another one.
        if usize::try_from(reader.u32()?) != Ok(CHUNK_LEN) {
            return Err(Malformed::Field("chunk length"));
        }
        let policy = reader.blob()?;
        let count = usize::try_from(reader.u32()?).map_err(|_| Malformed::Short)?;
        let lists = reader.take(count.checked_mul(ChunkId::LEN).ok_or(Malformed::Short)?)?;
        let lists = parse_ids(lists, count)?;
        reader.end()?;
        Ok(Self {
            snapshot: header.snapshot,
            base: Base {
                timeline: header.timeline,
                seq: header.base_seq,
                hash: header.base_hash,
            },
            data_version,
            database_len,
            policy: (!policy.is_empty()).then(|| policy.to_vec()),
            lists,
        })
    }

    fn check(&self) -> Result<(), Malformed> {
        if i64::try_from(self.data_version).is_err() {
            return Err(Malformed::Field("data_version"));
        }
        if self.database_len == 0 || i64::try_from(self.database_len).is_err() {
            return Err(Malformed::Field("database length"));
        }
        if u64::try_from(self.lists.len()) != Ok(self.chunks().div_ceil(LIST_IDS as u64)) {
            return Err(Malformed::Field("number of list chunks"));
        }
        if self
            .policy
            .as_ref()
            .is_some_and(|policy| policy.is_empty() || policy.len() > MANIFEST_MAX / 2)
        {
            return Err(Malformed::Field("policy"));
        }
        Ok(())
    }
}

fn cipher(key: &ManifestKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose_bytes().into())
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{Keys, Root},
        snapshot::testing::TestRng,
    };
    use proptest::prelude::*;

    fn key(seed: u8) -> ManifestKey {
        Keys::derive(&Root::from_bytes([seed; 32])).manifest
    }

    fn manifest(policy: Option<Vec<u8>>, database_len: u64) -> Manifest {
        let lists = database_len.div_ceil(CHUNK_LEN as u64).div_ceil(LIST_IDS as u64);
        Manifest {
            snapshot: SnapshotId([2; 16]),
            base: Base {
                timeline: TimelineId([1; 16]),
                seq: 7,
                hash: RecordHash([3; 32]),
            },
            data_version: 5,
            database_len,
            policy,
            lists: (0_u8..).zip(0..lists).map(|(at, _)| ChunkId([at; 32])).collect(),
        }
    }

    #[test]
    fn a_manifest_is_opened_as_it_was_sealed() {
        for manifest in [
            manifest(None, 1),
            manifest(Some(vec![7; 300]), 12 << 20),
            manifest(Some(vec![7]), (CHUNK_LEN * LIST_IDS) as u64 + 1),
        ] {
            let sealed = manifest.seal(&key(1), &mut TestRng::new(1)).unwrap();
            assert_eq!(Manifest::open(&key(1), &sealed), Ok(manifest));
        }
    }

    #[test]
    fn every_byte_of_a_manifest_is_under_its_seal() {
        let sealed = manifest(None, 1).seal(&key(1), &mut TestRng::new(1)).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(Manifest::open(&key(1), &changed).is_err(), "byte {at}");
            assert!(Manifest::open(&key(1), &sealed[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(Manifest::open(&key(2), &sealed), Err(BadManifest::Seal));
    }

    #[test]
    fn a_manifest_that_describes_no_database_is_not_sealed() {
        let seal = |manifest: Manifest| manifest.seal(&key(1), &mut TestRng::new(1));
        let mut short = manifest(None, 1);
        short.lists.clear();
        assert_eq!(seal(short), Err(Malformed::Field("number of list chunks")));
        assert_eq!(seal(manifest(None, 0)), Err(Malformed::Field("database length")));
        let mut rootless = manifest(None, 1);
        rootless.base.seq = 0;
        assert_eq!(seal(rootless), Err(Malformed::Field("base_seq")));
        let mut versionless = manifest(None, 1);
        versionless.data_version = u64::MAX;
        assert_eq!(seal(versionless), Err(Malformed::Field("data_version")));
    }

    proptest! {
        #[test]
        fn no_content_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), real in any::<bool>()) {
            let header = ManifestHeader {
                timeline: TimelineId([1; 16]), snapshot: SnapshotId([2; 16]), base_seq: 1,
                base_hash: RecordHash([3; 32]), nonce: [0; 24],
            };
            let mut content = manifest(None, 1).content();
            if real { for (at, byte) in bytes.iter().enumerate() { if let Some(to) = content.get_mut(at) { *to ^= byte; } } }
            if let Ok(parsed) = Manifest::parse(&header, if real { &content } else { &bytes }) {
                let _ = parsed.check();
            }
        }
    }
}
