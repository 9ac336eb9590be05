//! A pack: sealed chunks one after another, in an order that tells nothing about the file (SPEC 6.2).
//!
//! ```text
//! magic "BKSP", version 1, kind 16
//! then for each chunk: id (32), length of the sealed chunk (u32), sealed chunk
//! ```
//!
//! A pack is named by its SHA-256. The server reads where each chunk lies, never what it holds.

use crate::{
    api::{PACK_MAX, SEALED_CHUNK_MAX, SEALED_CHUNK_MIN},
    bytes::{Malformed, Reader, kind, preamble},
    hash::sha256_in_turns,
    id::{ChunkId, PackId},
};

/// Bytes of a pack before its first entry.
pub const PACK_PREAMBLE_LEN: usize = 6;
/// Bytes of an entry before its sealed chunk.
pub const ENTRY_HEADER_LEN: usize = 36;

/// One chunk in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry<'a> {
    /// The chunk's name.
    pub id: ChunkId,
    /// Where `sealed` starts in the pack.
    pub offset: u32,
    /// Nonce, ciphertext and tag.
    pub sealed: &'a [u8],
}

/// Collects sealed chunks into a pack.
#[derive(Debug)]
pub struct PackBuilder {
    bytes: Vec<u8>,
}

impl Default for PackBuilder {
    fn default() -> Self {
        Self {
            bytes: preamble(kind::PACK).to_vec(),
        }
    }
}

impl PackBuilder {
    /// With room for a pack of that many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut builder = Self {
            bytes: Vec::with_capacity(bytes),
        };
        builder.bytes.extend_from_slice(&preamble(kind::PACK));
        builder
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == PACK_PREAMBLE_LEN
    }

    /// Length of the pack so far, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a sealed chunk of `len` bytes still fits below [`PACK_MAX`].
    #[must_use]
    pub fn fits(&self, len: usize) -> bool {
        self.bytes.len() + ENTRY_HEADER_LEN + len <= PACK_MAX
    }

    /// Adds one sealed chunk; the caller keeps to [`Self::fits`], else the server refuses the pack.
    pub fn push(&mut self, id: ChunkId, sealed: &[u8]) {
        self.bytes.extend_from_slice(&id.0);
        self.bytes
            .extend_from_slice(&u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.bytes.extend_from_slice(sealed);
    }

    /// The finished pack and its name.
    #[must_use]
    pub fn finish(self) -> (PackId, Vec<u8>) {
        (PackId(sha256_in_turns(&self.bytes)), self.bytes)
    }
}

/// Reads the entries of a pack: at least one, each of a length a sealed chunk can have, no id twice.
pub fn parse_pack(pack: &[u8]) -> Result<Vec<PackEntry<'_>>, Malformed> {
    if pack.len() > PACK_MAX {
        return Err(Malformed::Field("pack length"));
    }
    let mut reader = Reader::new(pack);
    reader.preamble(kind::PACK)?;
    let mut entries = Vec::new();
    let mut seen = std::collections::HashSet::new();
    while !reader.rest().is_empty() {
        let id = ChunkId(reader.array()?);
        let sealed = reader.blob()?;
        if !(SEALED_CHUNK_MIN..=SEALED_CHUNK_MAX).contains(&sealed.len()) {
            return Err(Malformed::Field("chunk length"));
        }
        if !seen.insert(id) {
            return Err(Malformed::Field("chunk id: it stands there twice"));
        }
        let offset = pack.len() - reader.rest().len() - sealed.len();
        let offset = u32::try_from(offset).map_err(|_| Malformed::Field("pack length"))?;
        entries.push(PackEntry { id, offset, sealed });
    }
    if entries.is_empty() {
        Err(Malformed::Short)
    } else {
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(chunks: &[(u8, usize)]) -> Vec<u8> {
        let mut builder = PackBuilder::default();
        for (id, len) in chunks {
            builder.push(ChunkId([*id; 32]), &vec![*id; *len]);
        }
        builder.finish().1
    }

    #[test]
    fn a_pack_tells_where_each_chunk_lies() {
        let bytes = pack(&[(1, 300), (2, 400)]);
        let entries = parse_pack(&bytes).unwrap();
        assert_eq!(entries.len(), 2);
        for entry in entries {
            assert_eq!(
                &bytes[entry.offset as usize..][..entry.sealed.len()],
                entry.sealed
            );
        }
    }

    #[test]
    fn a_pack_that_no_client_would_make_is_refused_by_name() {
        assert_eq!(parse_pack(&pack(&[])), Err(Malformed::Short));
        assert_eq!(
            parse_pack(&pack(&[(1, 10)])),
            Err(Malformed::Field("chunk length"))
        );
        assert_eq!(
            parse_pack(&pack(&[(1, SEALED_CHUNK_MAX + 1)])),
            Err(Malformed::Field("chunk length"))
        );
        assert_eq!(
            parse_pack(&pack(&[(1, 300), (1, 300)])),
            Err(Malformed::Field("chunk id: it stands there twice"))
        );
        let whole = pack(&[(1, 300)]);
        assert_eq!(parse_pack(&whole[..whole.len() - 1]), Err(Malformed::Short));
        assert_eq!(
            parse_pack(&vec![0; PACK_MAX + 1]),
            Err(Malformed::Field("pack length"))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..900), start in any::<bool>()) {
            if start { bytes.splice(0..0, preamble(kind::PACK)); }
            let _ = parse_pack(&bytes);
        }
    }
}
