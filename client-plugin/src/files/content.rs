//! The files as one sealed object (SPEC 6.7).
//!
//! ```text
//! sealed   header (30, associated data) || XChaCha20-Poly1305(files key, nonce, padded)
//! padded   length of the content (u32) || content || zeros
//! content  when read (u64) || number (u16) || for each: length of the name (u8) || name || length (u32) || bytes
//! ```

use super::FileName;
use crate::{keys::FilesKey, record::padding::padded};
use backstop_protocol::{
    bytes::{Malformed, Reader},
    clock::UnixMillis,
    files::{FILES_HEADER_LEN, FilesHeader},
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use rand_core::CryptoRng;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: FileName,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// The files beside a database, as they were at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// When they were read, by the client's clock.
    pub read_at: UnixMillis,
    /// By ascending name, each once; at most [`Files::COUNT_MAX`].
    pub files: Vec<File>,
}

/// Why sealed files were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFiles {
    /// Header or content is not what SPEC says.
    #[error("the files beside the database are malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The seal does not hold: damaged, or another node's.
    #[error("the seal of the files beside the database does not hold")]
    Seal,
}

impl Files {
    /// Most files.
    pub const COUNT_MAX: usize = 64;

    /// CLN's emergency recovery file, where it is among them.
    #[must_use]
    pub fn emergency(&self) -> Option<&[u8]> {
        let found = self.files.iter().find(|file| file.name.is_emergency());
        found.map(|file| file.bytes.as_slice())
    }

    /// Seals them under a fresh nonce. [`Malformed`] where they are more or longer than a server takes, or out of order:
    /// what could not be opened again is not sealed.
    pub fn seal(&self, key: &FilesKey, rng: &mut dyn CryptoRng) -> Result<Vec<u8>, Malformed> {
        let content = self.content();
        Self::parse(&content)?;
        let mut body = Vec::with_capacity(padded(4 + content.len()));
        put_len(&mut body, content.len());
        body.extend_from_slice(&content);
        body.resize(padded(body.len()), 0);

        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let mut sealed = FilesHeader { nonce }.encode();
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
        FilesHeader::parse(&sealed)?;
        Ok(sealed)
    }

    /// Opens what was sealed.
    pub fn open(key: &FilesKey, sealed: &[u8]) -> Result<Self, BadFiles> {
        let header = FilesHeader::parse(sealed)?;
        let (aad, body) = sealed
            .split_at_checked(FILES_HEADER_LEN)
            .ok_or(Malformed::Short)?;
        let payload = Payload { msg: body, aad };
        let body = cipher(key)
            .decrypt(&XNonce::from(header.nonce), payload)
            .map_err(|_| BadFiles::Seal)?;
        let mut reader = Reader::new(&body);
        let content = reader.blob()?;
        if body.len() != padded(4 + content.len()) || reader.rest().iter().any(|byte| *byte != 0) {
            return Err(Malformed::Field("padding").into());
        }
        Ok(Self::parse(content)?)
    }

    fn content(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.read_at.0.to_be_bytes());
        let count = u16::try_from(self.files.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for File { name, bytes } in &self.files {
            let name = name.as_str().as_bytes();
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(name);
            put_len(&mut out, bytes.len());
            out.extend_from_slice(bytes);
        }
        out
    }

    fn parse(content: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(content);
        let read_at = reader.u64()?;
        if i64::try_from(read_at).is_err() {
            return Err(Malformed::Field("time"));
        }
        let count = usize::from(reader.u16()?);
        if count > Self::COUNT_MAX {
            return Err(Malformed::Field("number of files"));
        }
        let mut files: Vec<File> = Vec::new();
        for _ in 0..count {
            let len = usize::from(reader.u8()?);
            let name = std::str::from_utf8(reader.take(len)?)
                .ok()
                .and_then(|text| text.parse::<FileName>().ok())
                .ok_or(Malformed::Field("name"))?;
            if files.last().is_some_and(|before| before.name >= name) {
                return Err(Malformed::Field("order of names"));
            }
            let bytes = reader.blob()?.to_vec();
            files.push(File { name, bytes });
        }
        reader.end()?;
        Ok(Self {
            read_at: UnixMillis(read_at),
            files,
        })
    }
}

fn cipher(key: &FilesKey) -> XChaCha20Poly1305 {
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
    use backstop_protocol::api::FILES_MAX;
    use proptest::prelude::*;

    fn key(seed: u8) -> FilesKey {
        Keys::derive(&Root::from_bytes([seed; 32])).files
    }

    fn file(name: &str, bytes: Vec<u8>) -> File {
        File {
            name: name.parse().unwrap(),
            bytes,
        }
    }

    fn files(files: Vec<File>) -> Files {
        Files {
            read_at: UnixMillis(1_795_366_800_000),
            files,
        }
    }

    fn two() -> Files {
        files(vec![
            file("config", b"alias=x\n".to_vec()),
            file("emergency.recover", vec![7; 57]),
        ])
    }

    #[test]
    fn files_are_opened_as_they_were_sealed() {
        for files in [
            files(vec![]),
            two(),
            files(vec![file("../config", vec![0xff; 1 << 20])]),
        ] {
            let sealed = files.seal(&key(1), &mut TestRng::new(1)).unwrap();
            assert_eq!(Files::open(&key(1), &sealed), Ok(files));
        }
        assert_eq!(two().emergency(), Some(&[7; 57][..]));
    }

    #[test]
    fn every_byte_is_under_the_seal() {
        let sealed = two().seal(&key(1), &mut TestRng::new(1)).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(Files::open(&key(1), &changed).is_err(), "byte {at}");
            assert!(Files::open(&key(1), &sealed[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(Files::open(&key(2), &sealed), Err(BadFiles::Seal));
    }

    #[test]
    fn what_could_not_be_opened_again_is_not_sealed() {
        let seal = |files: Files| files.seal(&key(1), &mut TestRng::new(1));
        let mut turned = two();
        turned.files.reverse();
        assert_eq!(seal(turned), Err(Malformed::Field("order of names")));
        let mut twice = two();
        twice.files[1].name = twice.files[0].name.clone();
        assert_eq!(seal(twice), Err(Malformed::Field("order of names")));
        let many = (0..=Files::COUNT_MAX).map(|n| file(&format!("{n:04}"), vec![]));
        assert_eq!(
            seal(files(many.collect())),
            Err(Malformed::Field("number of files"))
        );
        let long = files(vec![file("config", vec![0; FILES_MAX])]);
        assert_eq!(seal(long), Err(Malformed::Field("files length")));
        let never = Files {
            read_at: UnixMillis(u64::MAX),
            ..two()
        };
        assert_eq!(seal(never), Err(Malformed::Field("time")));
    }

    proptest! {
        #[test]
        fn no_content_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), real in any::<bool>()) {
            let mut content = two().content();
            if real { for (at, byte) in bytes.iter().enumerate() { if let Some(to) = content.get_mut(at) { *to ^= byte; } } }
            let content = if real { content } else { bytes };
            if let Ok(parsed) = Files::parse(&content) {
                prop_assert_eq!(parsed.content(), content);
            }
        }

        #[test]
        fn whatever_has_good_names_comes_back(mut names in proptest::collection::btree_map("(\\.\\./)?[a-z]{1,8}", proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
            names.remove("");
            let files = files(names.into_iter().map(|(name, bytes)| file(&name, bytes)).collect());
            prop_assert_eq!(Files::parse(&files.content()), Ok(files));
        }
    }
}
