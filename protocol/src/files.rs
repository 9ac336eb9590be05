//! The clear header of a node's files beside its database, sealed as one (SPEC 6.7).
//!
//! ```text
//! offset  size  field
//!      0     6  magic "BKSP", version 1, kind 18
//!      6    24  nonce
//!     30     …  XChaCha20-Poly1305 of the padded content, the 30 bytes above being associated data
//! ```

use crate::{
    api::{FILES_MAX, PADDED_MIN},
    bytes::{Malformed, Reader, kind, preamble},
    record::TAG_LEN,
};

/// Bytes of the header, which is the associated data of the seal.
pub const FILES_HEADER_LEN: usize = 30;

/// The clear part. No history is named: the files are the node's, whatever becomes of its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilesHeader {
    /// Random nonce of the seal.
    pub nonce: [u8; 24],
}

impl FilesHeader {
    /// The 30 bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FILES_HEADER_LEN);
        out.extend_from_slice(&preamble(kind::FILES));
        out.extend_from_slice(&self.nonce);
        out
    }

    /// Reads the header of sealed files.
    pub fn parse(sealed: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(sealed);
        reader.preamble(kind::FILES)?;
        let header = Self {
            nonce: reader.array()?,
        };
        if reader.rest().len() < PADDED_MIN + TAG_LEN {
            return Err(Malformed::Short);
        }
        if sealed.len() > FILES_MAX {
            return Err(Malformed::Field("files length"));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = FilesHeader::parse(&bytes);
        }

        #[test]
        fn a_header_is_read_as_it_was_written(nonce in any::<[u8; 24]>(), len in 272..2000_usize) {
            let header = FilesHeader { nonce };
            let mut sealed = header.encode();
            prop_assert_eq!(sealed.len(), FILES_HEADER_LEN);
            sealed.resize(FILES_HEADER_LEN + len, 7);
            prop_assert_eq!(FilesHeader::parse(&sealed), Ok(header));
        }
    }
}
