//! The file `hsm_secret`, in every format that CLN has written (`common/hsm_secret.c`). Read by `setup` and
//! `restore` alone (I11).
//!
//! | length | first 32 bytes | content | secret |
//! |---|---|---|---|
//! | 32 | | the secret | 32 bytes |
//! | 73 | | the secret, encrypted under a passphrase | 32 bytes |
//! | other, above 32 | zeros | then words | the words' 64-byte seed |
//! | other, above 32 | SHA-256 of the seed | then words, which need a passphrase | the 64-byte seed |

use super::{
    Mnemonic, NodeSecret,
    mnemonic::BadMnemonic,
    secretstream::{self, STREAM_LEN},
};
use argon2::{Algorithm, Argon2, Params, Version};
use backstop_protocol::hash::{same, sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Longest file that is looked at, bytes; 24 words of eight letters are far below.
const LEN_MAX: usize = 1024;
/// libsodium's `crypto_pwhash` with the limits that it calls "moderate", and CLN's fixed salt.
const ARGON_SALT: &[u8; 16] = b"c-lightning\0\0\0\0\0";
const ARGON_KIB: u32 = 256 << 10;
const ARGON_PASSES: u32 = 3;

/// The content of an `hsm_secret` file, not yet unlocked; wiped when dropped (I11).
pub struct HsmSecret(Format);

enum Format {
    Plain(Zeroizing<[u8; 32]>),
    Encrypted(Box<[u8; STREAM_LEN]>),
    Words(Mnemonic),
    WordsWithPassphrase { words: Mnemonic, seed_hash: [u8; 32] },
}

/// Why an `hsm_secret` gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum HsmSecretError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// So many bytes, in no format.
    #[error("the hsm_secret ({0} bytes) is in no format that CLN has: is it the right file?")]
    Length(usize),
    /// Behind the first 32 bytes there should be words.
    #[error("the hsm_secret should hold a mnemonic, but {0}: is it the right file?")]
    Words(BadMnemonic),
    /// Words in a form that lightningd does not take either.
    #[error("the hsm_secret's words are not in lower case with one blank between each, as CLN writes them")]
    Spelling,
    /// A passphrase is needed.
    #[error("the hsm_secret is protected by a passphrase")]
    PassphraseNeeded,
    /// The words are not protected by a passphrase, and with one they would mean another node.
    #[error("a passphrase was given, but this hsm_secret needs none")]
    PassphraseNotNeeded,
    /// The passphrase does not fit.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// 256 MiB are needed to try a passphrase, as in lightningd.
    #[error("not enough memory to try the passphrase (256 MiB are needed)")]
    Memory,
}

impl HsmSecret {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, HsmSecretError> {
        let io = |reason| HsmSecretError::Io {
            path: path.to_owned(),
            reason,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(LEN_MAX + 1));
        let file = File::open(path).map_err(io)?;
        file.take(LEN_MAX as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        Self::parse(&bytes)
    }

    /// Tells the formats apart by length, in CLN's order.
    pub fn parse(bytes: &[u8]) -> Result<Self, HsmSecretError> {
        if let Ok(secret) = <[u8; 32]>::try_from(bytes) {
            return Ok(Self(Format::Plain(Zeroizing::new(secret))));
        }
        if let Ok(stream) = <[u8; STREAM_LEN]>::try_from(bytes) {
            return Ok(Self(Format::Encrypted(Box::new(stream))));
        }
        let Some((seed_hash, words)) = bytes.split_first_chunk::<32>() else {
            return Err(HsmSecretError::Length(bytes.len()));
        };
        if bytes.len() > LEN_MAX {
            return Err(HsmSecretError::Length(bytes.len()));
        }
        let text = std::str::from_utf8(words).map_err(|_| HsmSecretError::Length(bytes.len()))?;
        let words = Mnemonic::parse(text).map_err(|reason| HsmSecretError::Words(quiet(reason)))?;
        // The seed is a hash of the words' bytes: in another spelling they would be another node.
        if *words.text() != text {
            return Err(HsmSecretError::Spelling);
        }
        if *seed_hash == [0; 32] {
            Ok(Self(Format::Words(words)))
        } else {
            Ok(Self(Format::WordsWithPassphrase {
                words,
                seed_hash: *seed_hash,
            }))
        }
    }

    /// Whether [`HsmSecret::unlock`] needs a passphrase.
    #[must_use]
    pub fn needs_passphrase(&self) -> bool {
        matches!(self.0, Format::Encrypted(_) | Format::WordsWithPassphrase { .. })
    }

    /// Whether it holds words, which a person can write down.
    #[must_use]
    pub fn has_words(&self) -> bool {
        matches!(self.0, Format::Words(_) | Format::WordsWithPassphrase { .. })
    }

    /// The node's secret. As in lightningd, a passphrase is ignored for a plain file and an error for words that
    /// need none; a wrong one is always noticed. For an encrypted file this takes a second and 256 MiB.
    pub fn unlock(&self, passphrase: Option<&str>) -> Result<NodeSecret, HsmSecretError> {
        match &self.0 {
            Format::Plain(secret) => Ok(NodeSecret::short(secret.clone())),
            Format::Encrypted(stream) => {
                let key = argon_key(passphrase.ok_or(HsmSecretError::PassphraseNeeded)?)?;
                let secret = secretstream::open(&key, stream).ok_or(HsmSecretError::WrongPassphrase)?;
                Ok(NodeSecret::short(secret))
            }
            Format::Words(words) => match passphrase {
                None => Ok(NodeSecret::seed(words.seed(None))),
                Some(_) => Err(HsmSecretError::PassphraseNotNeeded),
            },
            Format::WordsWithPassphrase { words, seed_hash } => {
                let seed = words.seed(Some(passphrase.ok_or(HsmSecretError::PassphraseNeeded)?));
                if same(&sha256(&*seed), seed_hash) {
                    Ok(NodeSecret::seed(seed))
                } else {
                    Err(HsmSecretError::WrongPassphrase)
                }
            }
        }
    }
}

fn argon_key(passphrase: &str) -> Result<Zeroizing<[u8; 32]>, HsmSecretError> {
    let mut key = Zeroizing::new([0; 32]);
    // Constants within Argon2's limits and a passphrase below 4 GiB: only memory can be missing.
    let params = Params::new(ARGON_KIB, ARGON_PASSES, 1, None).map_err(|_| HsmSecretError::Memory)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), ARGON_SALT, &mut *key)
        .map_err(|_| HsmSecretError::Memory)?;
    Ok(key)
}

/// Without the word: it comes from a file that holds a secret, not from what a person just typed.
fn quiet(reason: BadMnemonic) -> BadMnemonic {
    match reason {
        BadMnemonic::Word { place, .. } => BadMnemonic::Word {
            place,
            word: "…".to_owned(),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORDS: &str = "hockey enroll sure trip track rescue original plate abandon abandon abandon account";
    const WITH_PASSPHRASE: &str = "ritual idle hat sunny universe pluck key alpha wing cake have wedding";
    const SEED_HASH: &str = "61ce9e277eb9894701400a422e43ba27c7d9d10b72bad52c16a411d2dbaf82f1";
    const ENCRYPTED: &str = "579119183f1b8f1da7cc8935507ad471951d073e6f8b31be4d4ec58c594a86fb1ba479d5f2675d7ae7e111994146a61bc7905fd0342e378ed516384982a99f7207f15b4f5f609f3177";

    fn file(front: &[u8], words: &str) -> Vec<u8> {
        [front, words.as_bytes()].concat()
    }

    fn parsed(bytes: &[u8]) -> HsmSecret {
        HsmSecret::parse(bytes).ok().unwrap()
    }

    fn error<T>(result: Result<T, HsmSecretError>) -> HsmSecretError {
        result.err().unwrap()
    }

    #[test]
    fn a_plain_file_is_the_secret_and_ignores_a_passphrase() {
        let file = parsed(&[1; 32]);
        assert!(!file.needs_passphrase());
        for passphrase in [None, Some("whatever")] {
            assert_eq!(
                file.unlock(passphrase).ok().unwrap().node_id().to_string(),
                "026f61d7ee82f937f9697f4f3e44bfaaa25849cc4f526b3a57326130eba6346002"
            );
        }
    }

    #[test]
    fn an_encrypted_file_opens_with_its_passphrase_alone() {
        let file = parsed(&hex::decode(ENCRYPTED).unwrap());
        assert!(file.needs_passphrase());
        assert!(matches!(
            error(file.unlock(None)),
            HsmSecretError::PassphraseNeeded
        ));
        assert!(matches!(
            error(file.unlock(Some("test_passwore"))),
            HsmSecretError::WrongPassphrase
        ));
        assert_eq!(
            file.unlock(Some("test_password")).ok().unwrap().node_id(),
            parsed(&[1; 32]).unlock(None).ok().unwrap().node_id()
        );
    }

    #[test]
    fn words_without_a_passphrase_refuse_one() {
        let file = parsed(&file(&[0; 32], WORDS));
        assert!(!file.needs_passphrase());
        assert_eq!(
            file.unlock(None).ok().unwrap().node_id().to_string(),
            "038194b5f32bdf0aa59812c86c4ef7ad2f294104fa027d1ace9b469bb6f88cf37b"
        );
        assert!(matches!(
            error(file.unlock(Some("x"))),
            HsmSecretError::PassphraseNotNeeded
        ));
    }

    #[test]
    fn words_with_a_passphrase_notice_a_wrong_one() {
        let file = parsed(&file(&hex::decode(SEED_HASH).unwrap(), WITH_PASSPHRASE));
        assert!(file.needs_passphrase());
        assert!(matches!(
            error(file.unlock(None)),
            HsmSecretError::PassphraseNeeded
        ));
        for wrong in ["", "test_passphrasf", "Test_passphrase", "test_passphrase "] {
            assert!(matches!(
                error(file.unlock(Some(wrong))),
                HsmSecretError::WrongPassphrase
            ));
        }
        assert_eq!(
            file.unlock(Some("test_passphrase"))
                .ok()
                .unwrap()
                .node_id()
                .to_string(),
            "039020371fb803cd4ce1e9a909b502d7b0a9e0f10cccc35c3e9be959c52d3ba6bd"
        );
    }

    #[test]
    fn what_no_format_is_like_is_refused() {
        for len in [0, 1, 31] {
            assert!(matches!(error(HsmSecret::parse(&vec![0; len])), HsmSecretError::Length(l) if l == len));
        }
        assert!(matches!(
            error(HsmSecret::parse(&file(&[0; 32], "x\u{0}"))),
            HsmSecretError::Words(_)
        ));
        assert!(matches!(
            error(HsmSecret::parse(&[0xff; 80])),
            HsmSecretError::Length(80)
        ));
        for spelling in [
            format!("{WORDS}\n"),
            WORDS.to_uppercase(),
            WORDS.replace(' ', "  "),
        ] {
            assert!(matches!(
                error(HsmSecret::parse(&file(&[0; 32], &spelling))),
                HsmSecretError::Spelling
            ));
        }
        let long = "abandon ".repeat(200);
        assert!(matches!(
            error(HsmSecret::parse(&file(&[0; 32], &long))),
            HsmSecretError::Length(_)
        ));
    }

    #[test]
    fn an_error_about_a_file_repeats_none_of_its_words() {
        let damaged = file(&[0; 32], &WORDS.replace("rescue", "rescua"));
        assert!(!error(HsmSecret::parse(&damaged)).to_string().contains("rescu"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hsm_secret");
        assert!(error(HsmSecret::read(&path)).to_string().contains("hsm_secret"));
        std::fs::write(&path, [1; 32]).unwrap();
        assert!(HsmSecret::read(&path).is_ok());
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        assert!(matches!(error(HsmSecret::read(&path)), HsmSecretError::Length(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), words in "([a-z]{3,8} ){0,30}", zeros in any::<bool>()) {
            let _ = HsmSecret::parse(&bytes);
            let _ = HsmSecret::parse(&file(&[u8::from(!zeros); 32], &words));
        }

        #[test]
        fn a_file_of_words_with_any_byte_changed_is_never_taken_for_the_same_node(at in 0..115_usize, change in 1..=255_u8) {
            let mut bytes = file(&[0; 32], WORDS);
            let right = parsed(&bytes).unlock(None).ok().unwrap().node_id();
            bytes[at] ^= change;
            if let Ok(secret) = HsmSecret::parse(&bytes).and_then(|file| file.unlock(None)) {
                prop_assert_ne!(secret.node_id(), right);
            }
        }
    }
}
