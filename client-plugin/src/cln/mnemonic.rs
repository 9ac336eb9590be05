//! The words behind a node's secret (BIP39, the English list, as CLN's `hsm_secret`).

use super::NodeSecret;
use backstop_protocol::hash::sha256;
use bip39::Language;
use zeroize::Zeroizing;

/// Words with a good checksum: 12, 15, 18, 21 or 24 of them; wiped when dropped (I11).
pub struct Mnemonic(bip39::Mnemonic);

/// Why a text is no mnemonic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMnemonic {
    /// Too few words, too many, or none at all.
    #[error("{0} words were given; a mnemonic has 12, 15, 18, 21 or 24")]
    Count(usize),
    /// A word that no English mnemonic holds.
    #[error("word {place} is {word:?}, which is not in the English BIP39 list")]
    Word {
        /// Counted from 1.
        place: usize,
        /// As it was typed, in lower case.
        word: String,
    },
    /// The checksum alone is wrong.
    #[error(
        "each word is in the BIP39 list, but together their checksum is wrong: one of them is another word of the list, or two are exchanged"
    )]
    Checksum,
}

/// What a node may have kept of its words.
pub struct Candidate {
    /// The secret as such a node holds it.
    pub secret: NodeSecret,
    file: Zeroizing<Vec<u8>>,
}

impl Candidate {
    /// The content of the `hsm_secret` file of such a node.
    #[must_use]
    pub fn hsm_secret_file_bytes(&self) -> &[u8] {
        &self.file
    }
}

impl Mnemonic {
    /// Reads words in any case, with any white space between and around them.
    pub fn parse(text: &str) -> Result<Self, BadMnemonic> {
        let text = Zeroizing::new(text.to_lowercase());
        let words = || text.split_whitespace();
        bip39::Mnemonic::parse_in_normalized(Language::English, &text)
            .map(Self)
            .map_err(|error| match error {
                bip39::Error::UnknownWord(at) => BadMnemonic::Word {
                    place: at + 1,
                    word: words().nth(at).unwrap_or_default().to_owned(),
                },
                bip39::Error::InvalidChecksum => BadMnemonic::Checksum,
                _ => BadMnemonic::Count(words().count()),
            })
    }

    /// The words with one blank between each: how CLN writes them.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        // The longest words have eight letters. A string that grows leaves copies of itself behind.
        let mut text = Zeroizing::new(String::with_capacity(9 * self.0.word_count()));
        for word in self.0.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// The BIP39 seed. The passphrase counts byte by byte, as in CLN, without the Unicode normalisation of BIP39.
    #[must_use]
    pub fn seed(&self, passphrase: Option<&str>) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_seed_normalized(passphrase.unwrap_or_default()))
    }

    /// What a node may have made of these words, the present way first: nodes since v25.12 keep the words and use
    /// the whole seed; hsmtool before that kept the seed's first 32 bytes in a plain file. Both are the same node;
    /// the one whose root opens the backup is the right one. An empty passphrase is none.
    #[must_use]
    pub fn candidates(&self, passphrase: Option<&str>) -> [Candidate; 2] {
        let passphrase = passphrase.filter(|passphrase| !passphrase.is_empty());
        let seed = self.seed(passphrase);
        let check = passphrase.map_or([0; 32], |_| sha256(&*seed));
        let words = self.text();
        let mut file = Zeroizing::new(Vec::with_capacity(check.len() + words.len()));
        file.extend_from_slice(&check);
        file.extend_from_slice(words.as_bytes());

        let mut half = Zeroizing::new([0; 32]);
        for (to, from) in half.iter_mut().zip(&*seed) {
            *to = *from;
        }
        let plain = Zeroizing::new(half.to_vec());
        [
            Candidate {
                secret: NodeSecret::seed(seed),
                file,
            },
            Candidate {
                secret: NodeSecret::short(half),
                file: plain,
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cln::HsmSecret;
    use proptest::prelude::*;

    const WORDS: &str = "hockey enroll sure trip track rescue original plate abandon abandon abandon account";
    const WITH_PASSPHRASE: &str = "ritual idle hat sunny universe pluck key alpha wing cake have wedding";

    fn scb(secret: &NodeSecret) -> String {
        hex::encode(*secret.makesecret(b"scb secret"))
    }

    fn error(text: &str) -> BadMnemonic {
        Mnemonic::parse(text).err().unwrap()
    }

    #[test]
    fn words_give_the_node_that_cln_makes_of_them() {
        let [present, older] = Mnemonic::parse(WORDS).ok().unwrap().candidates(None);
        let id = "038194b5f32bdf0aa59812c86c4ef7ad2f294104fa027d1ace9b469bb6f88cf37b";
        assert_eq!(present.secret.node_id().to_string(), id);
        assert_eq!(older.secret.node_id().to_string(), id);
        assert_eq!(
            scb(&present.secret),
            "498a16a6c6b82b7280de7f5b0afa0478b29d3a1cbe52c376249cf46abb6c03da"
        );
        assert_eq!(
            scb(&older.secret),
            "07e5d4bdd002973eba43c09ae9f2ff7081bf6df235e19d40f35a3fd5e0a5833f"
        );
    }

    #[test]
    fn the_standard_words_of_bip39_give_their_known_seed() {
        let mnemonic = Mnemonic::parse(&format!("{}about", "abandon ".repeat(11)))
            .ok()
            .unwrap();
        let seed = hex::encode(*mnemonic.seed(None));
        assert!(seed.starts_with("5eb00bbd") && seed.ends_with("2ce9e38e4"));
        let [present, _] = mnemonic.candidates(None);
        assert_eq!(
            present.secret.node_id().to_string(),
            "03653e90c1ce4660fd8505dd6d643356e93cfe202af109d382787639dd5890e87d"
        );
        assert_eq!(
            scb(&present.secret),
            "b472fed50c32e8023f222ac0f78003fc5ddbf2838a957dbd0e26dcb308b11a1c"
        );
    }

    #[test]
    fn a_passphrase_makes_another_node() {
        let mnemonic = Mnemonic::parse(WITH_PASSPHRASE).ok().unwrap();
        let [present, _] = mnemonic.candidates(Some("test_passphrase"));
        assert_eq!(
            present.secret.node_id().to_string(),
            "039020371fb803cd4ce1e9a909b502d7b0a9e0f10cccc35c3e9be959c52d3ba6bd"
        );
        assert_eq!(
            scb(&present.secret),
            "1ca973ff491128f06943ba18c752fa7eb6345b1c303a0706c0ccdb3b0e359b42"
        );
        let file = present.hsm_secret_file_bytes();
        assert_eq!(
            hex::encode(&file[..32]),
            "61ce9e277eb9894701400a422e43ba27c7d9d10b72bad52c16a411d2dbaf82f1"
        );
        assert_eq!(&file[32..], WITH_PASSPHRASE.as_bytes());
        let [none, _] = mnemonic.candidates(Some(""));
        assert_eq!(
            none.secret.node_id(),
            mnemonic.candidates(None)[0].secret.node_id()
        );
        assert_eq!(none.hsm_secret_file_bytes()[..32], [0; 32]);
    }

    #[test]
    fn each_candidates_file_unlocks_to_the_same_secret() {
        for passphrase in [None, Some("pass phrase")] {
            for (candidate, passphrase) in Mnemonic::parse(WORDS)
                .ok()
                .unwrap()
                .candidates(passphrase)
                .iter()
                .zip([passphrase, None])
            {
                let file = HsmSecret::parse(candidate.hsm_secret_file_bytes()).ok().unwrap();
                let secret = file.unlock(passphrase).ok().unwrap();
                assert_eq!(scb(&secret), scb(&candidate.secret));
                assert_eq!(secret.node_id(), candidate.secret.node_id());
            }
        }
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        let typed = format!("\n {}\t", WORDS.to_uppercase().replace(' ', " \r\n "));
        assert_eq!(*Mnemonic::parse(&typed).ok().unwrap().text(), WORDS);
    }

    #[test]
    fn every_length_of_bip39_is_read() {
        for (count, last) in [
            (12, "about"),
            (15, "address"),
            (18, "agent"),
            (21, "admit"),
            (24, "art"),
        ] {
            let words = format!("{}{last}", "abandon ".repeat(count - 1));
            assert_eq!(*Mnemonic::parse(&words).ok().unwrap().text(), words);
        }
    }

    #[test]
    fn an_error_says_which_word_or_that_only_the_checksum_is_off() {
        assert_eq!(
            error(&WORDS.replace("rescue", "Rescu")),
            BadMnemonic::Word {
                place: 6,
                word: "rescu".to_owned()
            }
        );
        assert_eq!(error(&WORDS.replace("rescue", "result")), BadMnemonic::Checksum);
        assert_eq!(error(&WORDS.replace("hockey ", "")), BadMnemonic::Count(11));
        assert_eq!(error(&"abandon ".repeat(27)), BadMnemonic::Count(27));
        assert_eq!(error(""), BadMnemonic::Count(0));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}", words in "([A-Za-zé]{0,9}[ \u{a0}\t]){0,30}") {
            let _ = Mnemonic::parse(&text);
            let _ = Mnemonic::parse(&words);
        }
    }
}
