//! Pieces of a database file, named by their content and sealed (SPEC 6.1).
//!
//! ```text
//! id      HMAC-SHA256(chunk-id key, kind || plaintext)
//! sealed  nonce (24) || XChaCha20-Poly1305(chunk key, nonce, padded, associated data = kind || id)
//! padded  codec (0 as it is, 1 deflated) || length of the body (u32) || body || zeros
//! ```
//!
//! Equal pieces of one node's database have equal ids, so that a piece which the server holds already is not sent
//! again; without the key an id says nothing about the piece.

use crate::{
    keys::Keys,
    record::{deflate::shrink, padding::padded},
};
use backstop_protocol::{
    bytes::{Malformed, Reader},
    chunk::ChunkKind,
    hash::hmac_sha256,
    id::ChunkId,
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use flate2::{Compress, Compression, Decompress, FlushDecompress, Status};
use rand_core::CryptoRng;
use std::{sync::Arc, thread};

/// Bytes of the database file in one chunk; the last one of a file may be shorter.
pub const CHUNK_LEN: usize = 16 << 10;
/// Ids in one list chunk, in file order; the last one may hold fewer. A page that changes re-sends one list.
pub const LIST_IDS: usize = 512;

const NONCE_LEN: usize = 24;
/// Codec and length before a chunk's body.
const BODY_HEADER_LEN: usize = 5;
const RAW: u8 = 0;
const DEFLATED: u8 = 1;

/// What is wrong with a chunk that a server gave us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// Its seal does not hold: it was damaged, or is another chunk, or another node's.
    #[error("its seal does not hold")]
    Seal,
    /// The seal holds and the content is not what SPEC says.
    #[error("its content is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The content does not have the id under which it was asked for.
    #[error("its content has another id")]
    Id,
    /// The content is longer or shorter than the piece of the file that it stands for.
    #[error("it holds {found} bytes instead of {expected}")]
    Len {
        /// What its place in the file calls for.
        expected: usize,
        /// What it holds.
        found: usize,
    },
}

/// How hard a piece is deflated. Measured over a real node's database: the default level saves another 1% and takes half as
/// long again, the level below costs 13% more bytes.
const LEVEL: u32 = 2;

/// Names, seals and opens the chunks of one node.
pub struct Chunker {
    keys: Arc<Keys>,
    cipher: XChaCha20Poly1305,
    // Tables are kept from chunk to chunk, history is not: no chunk enters the compression of another.
    compress: Compress,
    decompress: Decompress,
}

impl Chunker {
    /// With the keys of the node.
    #[must_use]
    pub fn new(keys: &Arc<Keys>) -> Self {
        Self {
            keys: Arc::clone(keys),
            cipher: XChaCha20Poly1305::new(keys.chunk.expose_bytes().into()),
            compress: Compress::new(Compression::new(LEVEL), false),
            decompress: Decompress::new(false),
        }
    }

    /// The name of a piece. Whatever goes through a database names piece after piece, and so offers its core to the hook's
    /// thread after each.
    #[must_use]
    pub fn id(&self, kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
        // A kernel may let a thread run out its slice of some milliseconds, however much it is to give way.
        thread::yield_now();
        ChunkId(hmac_sha256(
            self.keys.chunk_id.expose_bytes(),
            &[&[kind as u8], plaintext],
        ))
    }

    /// Seals a piece of at most [`CHUNK_LEN`] bytes whose [`Self::id`] the caller knows already.
    pub fn seal(
        &mut self,
        kind: ChunkKind,
        id: ChunkId,
        plaintext: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Vec<u8> {
        let deflated = self.deflate(plaintext);
        let (codec, body) = match &deflated {
            Some(deflated) => (DEFLATED, deflated.as_slice()),
            None => (RAW, plaintext),
        };
        let mut content = Vec::with_capacity(padded(BODY_HEADER_LEN + body.len()));
        content.push(codec);
        content.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        content.extend_from_slice(body);
        content.resize(padded(content.len()), 0);

        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let payload = Payload {
            msg: &content,
            aad: &associated(kind, id),
        };
        let mut sealed = nonce.to_vec();
        // The cipher refuses nothing below 256 GiB.
        sealed.extend(
            self.cipher
                .encrypt(&XNonce::from(nonce), payload)
                .unwrap_or_default(),
        );
        sealed
    }

    /// Opens what [`Self::seal`] made of a piece of `len` bytes.
    pub fn open(
        &mut self,
        kind: ChunkKind,
        id: ChunkId,
        sealed: &[u8],
        len: usize,
    ) -> Result<Vec<u8>, BadChunk> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(BadChunk::Seal)?;
        let payload = Payload {
            msg: sealed,
            aad: &associated(kind, id),
        };
        let content = self
            .cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| BadChunk::Seal)?;
        let plaintext = self.unpack(&content)?;
        if plaintext.len() != len {
            return Err(BadChunk::Len {
                expected: len,
                found: plaintext.len(),
            });
        }
        if self.id(kind, &plaintext) != id {
            return Err(BadChunk::Id);
        }
        Ok(plaintext)
    }

    fn unpack(&mut self, content: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut reader = Reader::new(content);
        let codec = reader.u8()?;
        let body = reader.blob()?;
        // One content has one padding: nothing else can be hidden in it.
        if content.len() != padded(BODY_HEADER_LEN + body.len())
            || reader.rest().iter().any(|byte| *byte != 0)
        {
            return Err(Malformed::Field("padding"));
        }
        match codec {
            RAW if body.len() <= CHUNK_LEN => Ok(body.to_vec()),
            RAW => Err(Malformed::Field("chunk length")),
            DEFLATED => self.inflate(body),
            _ => Err(Malformed::Field("codec")),
        }
    }

    /// The piece deflated, where that makes it shorter.
    fn deflate(&mut self, plaintext: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        shrink(&mut self.compress, plaintext, &mut out).then_some(out)
    }

    fn inflate(&mut self, body: &[u8]) -> Result<Vec<u8>, Malformed> {
        self.decompress.reset(false);
        // One byte of room more than a chunk can have, so that a longer one shows itself.
        let mut out = Vec::with_capacity(CHUNK_LEN + 1);
        let status = self
            .decompress
            .decompress_vec(body, &mut out, FlushDecompress::Finish);
        let whole = matches!(status, Ok(Status::StreamEnd))
            && u64::try_from(body.len()) == Ok(self.decompress.total_in())
            && out.len() <= CHUNK_LEN;
        if whole {
            Ok(out)
        } else {
            Err(Malformed::Field("deflated stream"))
        }
    }
}

fn associated(kind: ChunkKind, id: ChunkId) -> [u8; 1 + ChunkId::LEN] {
    let mut out = [kind as u8; 1 + ChunkId::LEN];
    for (to, from) in out.iter_mut().skip(1).zip(id.0) {
        *to = from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::Root, snapshot::testing::TestRng};
    use backstop_protocol::api::{SEALED_CHUNK_MAX, SEALED_CHUNK_MIN};
    use proptest::prelude::*;

    fn keys(seed: u8) -> Arc<Keys> {
        Arc::new(Keys::derive(&Root::from_bytes([seed; 32])))
    }

    /// Bytes that do not compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        rand_core::Rng::fill_bytes(&mut TestRng::new(7), &mut out);
        out
    }

    fn sealed(chunker: &mut Chunker, plaintext: &[u8]) -> (ChunkId, Vec<u8>) {
        let id = chunker.id(ChunkKind::Data, plaintext);
        (
            id,
            chunker.seal(ChunkKind::Data, id, plaintext, &mut TestRng::new(1)),
        )
    }

    #[test]
    fn a_piece_comes_back_as_it_went_in_and_its_seal_has_a_length_that_servers_take() {
        let keys = keys(1);
        let mut chunker = Chunker::new(&keys);
        for plaintext in [
            vec![],
            vec![0; CHUNK_LEN],
            noise(CHUNK_LEN),
            noise(1),
            noise(4097),
        ] {
            let (id, sealed) = sealed(&mut chunker, &plaintext);
            assert!((SEALED_CHUNK_MIN..=SEALED_CHUNK_MAX).contains(&sealed.len()));
            assert_eq!(
                chunker.open(ChunkKind::Data, id, &sealed, plaintext.len()),
                Ok(plaintext)
            );
        }
    }

    #[test]
    fn names_depend_on_content_kind_and_node_alone_and_seals_never_repeat() {
        let (keys, other) = (keys(1), keys(2));
        let mut chunker = Chunker::new(&keys);
        let id = chunker.id(ChunkKind::Data, b"page");
        assert_eq!(id, Chunker::new(&keys).id(ChunkKind::Data, b"page"));
        assert_ne!(id, chunker.id(ChunkKind::List, b"page"));
        assert_ne!(id, chunker.id(ChunkKind::Data, b"pagf"));
        assert_ne!(id, Chunker::new(&other).id(ChunkKind::Data, b"page"));
        let mut rng = TestRng::new(1);
        let once = chunker.seal(ChunkKind::Data, id, b"page", &mut rng);
        assert_ne!(once, chunker.seal(ChunkKind::Data, id, b"page", &mut rng));
    }

    #[test]
    fn a_chunk_that_is_damaged_or_another_one_is_refused_by_name() {
        let (keys, other) = (keys(1), keys(2));
        let mut chunker = Chunker::new(&keys);
        let (id, sealed) = sealed(&mut chunker, b"page");
        for at in [0, 30, sealed.len() - 1] {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(
                chunker.open(ChunkKind::Data, id, &damaged, 4),
                Err(BadChunk::Seal)
            );
        }
        for len in [0, 23, 24, 40, sealed.len() - 1] {
            assert_eq!(
                chunker.open(ChunkKind::Data, id, &sealed[..len], 4),
                Err(BadChunk::Seal)
            );
        }
        assert_eq!(chunker.open(ChunkKind::List, id, &sealed, 4), Err(BadChunk::Seal));
        assert_eq!(
            chunker.open(ChunkKind::Data, ChunkId([9; 32]), &sealed, 4),
            Err(BadChunk::Seal)
        );
        assert_eq!(
            Chunker::new(&other).open(ChunkKind::Data, id, &sealed, 4),
            Err(BadChunk::Seal)
        );
        assert_eq!(
            chunker.open(ChunkKind::Data, id, &sealed, 5),
            Err(BadChunk::Len {
                expected: 5,
                found: 4
            })
        );
        let liar = ChunkId([9; 32]);
        let lying = chunker.seal(ChunkKind::Data, liar, b"page", &mut TestRng::new(1));
        assert_eq!(chunker.open(ChunkKind::Data, liar, &lying, 4), Err(BadChunk::Id));
    }

    #[test]
    fn a_content_that_the_sealer_never_makes_is_refused_though_sealed() {
        let keys = keys(1);
        let mut chunker = Chunker::new(&keys);
        let mut content = vec![RAW, 0, 0, 0, 4];
        content.extend_from_slice(b"page");
        content.resize(256, 0);
        assert_eq!(chunker.unpack(&content), Ok(b"page".to_vec()));
        let with = |at: usize, byte: u8| {
            let mut changed = content.clone();
            changed[at] = byte;
            changed
        };
        assert_eq!(chunker.unpack(&with(0, 2)), Err(Malformed::Field("codec")));
        assert_eq!(
            chunker.unpack(&with(0, DEFLATED)),
            Err(Malformed::Field("deflated stream"))
        );
        assert_eq!(chunker.unpack(&with(255, 1)), Err(Malformed::Field("padding")));
        assert_eq!(chunker.unpack(&with(1, 1)), Err(Malformed::Short));
        content.resize(272, 0);
        assert_eq!(chunker.unpack(&content), Err(Malformed::Field("padding")));
        let bomb = Chunker::new(&keys).deflate(&vec![0; CHUNK_LEN + 1]).unwrap();
        assert_eq!(chunker.inflate(&bomb), Err(Malformed::Field("deflated stream")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_opener_panic(content in proptest::collection::vec(any::<u8>(), 0..400), codec in 0_u8..3) {
            let keys = keys(1);
            let mut chunker = Chunker::new(&keys);
            let _ = chunker.open(ChunkKind::Data, ChunkId([0; 32]), &content, 7);
            let _ = chunker.unpack(&content);
            let len = u8::try_from(content.len() % 200).unwrap();
            let mut shaped = vec![codec, 0, 0, 0, len];
            shaped.extend_from_slice(&content);
            shaped.truncate(5 + usize::from(len));
            shaped.resize(256, 0);
            let _ = chunker.unpack(&shaped);
        }
    }
}
