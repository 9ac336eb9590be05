//! The recovery key: a root as a text that a person writes down (SPEC 3).
//!
//! Bech32m under the human-readable part `backstop`: one symbol for the version, one for the network, 52 for the
//! 256 bits of the root (four bits of zero at the end), six of checksum, which finds any four wrong characters.
//! Printed in groups of four; read in any case, with blanks and hyphens anywhere.

use super::{Root, bech32m};
use backstop_protocol::id::Network;
use zeroize::Zeroizing;

const HRP: &str = "backstop";
const VERSION: u8 = 1;
/// A network's place here is its symbol: append only.
const NETWORKS: [Network; 5] = [
    Network::Bitcoin,
    Network::Testnet,
    Network::Testnet4,
    Network::Signet,
    Network::Regtest,
];
const ROOT_SYMBOLS: usize = 52;
const SYMBOLS: usize = 2 + ROOT_SYMBOLS + bech32m::CHECKSUM_LEN;
const GROUP: usize = 4;

/// A root and the network that it belongs to; reads and writes backups of one node, and can spend nothing.
pub struct RecoveryKey {
    /// The network for which the root was derived.
    pub network: Network,
    /// The root.
    pub root: Root,
}

/// Why a text is not a recovery key. None of these repeats what was typed beyond one character that cannot be
/// part of any recovery key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecoveryKey {
    /// The text starts otherwise.
    #[error("a recovery key starts with {HRP}1")]
    Start,
    /// A character that no recovery key holds.
    #[error(
        "character {place} after {HRP}1 is {character:?}, which does not occur there (nor do the letters b, i, o and the digit 1): compare it with what was written down"
    )]
    Character {
        /// Counted from 1 behind the prefix, without blanks and hyphens.
        place: usize,
        /// What stands there.
        character: char,
    },
    /// Too short or too long.
    #[error("a recovery key has {SYMBOLS} characters after {HRP}1, this one has {0}")]
    Length(usize),
    /// The checksum does not fit.
    #[error("the recovery key has a mistake in it: compare each group of four with what was written down")]
    Checksum,
    /// A good checksum over something that this program does not know.
    #[error("this recovery key was made by a newer version of Backstop: restore with that version")]
    Unknown,
}

impl RecoveryKey {
    /// The text for `root` on `network`, in groups of four.
    #[must_use]
    pub fn to_text(network: Network, root: &Root) -> Zeroizing<String> {
        let mut symbols = Zeroizing::new(Vec::with_capacity(SYMBOLS));
        symbols.push(VERSION);
        symbols.push(network_symbol(network));
        push_root(&mut symbols, root);
        let sum = bech32m::checksum(HRP, &symbols);
        symbols.extend_from_slice(&sum);

        // The full length at once: a string that grows leaves copies of itself behind.
        let mut text = Zeroizing::new(String::with_capacity(HRP.len() + 1 + SYMBOLS + SYMBOLS / GROUP));
        text.push_str(HRP);
        text.push('1');
        for group in symbols.chunks(GROUP) {
            text.push(' ');
            text.extend(group.iter().map(|symbol| bech32m::character(*symbol)));
        }
        text
    }

    /// Reads what [`RecoveryKey::to_text`] wrote, as a person types it.
    pub fn parse(text: &str) -> Result<Self, BadRecoveryKey> {
        let mut typed = text
            .chars()
            .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}'))
            .map(|c| c.to_ascii_lowercase());
        if !HRP
            .chars()
            .chain(['1'])
            .all(|expected| typed.next() == Some(expected))
        {
            return Err(BadRecoveryKey::Start);
        }
        let mut symbols = Zeroizing::new(Vec::with_capacity(SYMBOLS));
        let mut found = 0;
        for character in typed {
            found += 1;
            let place = found;
            let symbol = bech32m::symbol(character).ok_or(BadRecoveryKey::Character { place, character })?;
            if found <= SYMBOLS {
                symbols.push(symbol);
            }
        }
        if found != SYMBOLS {
            return Err(BadRecoveryKey::Length(found));
        }
        if !bech32m::is_valid(HRP, &symbols) {
            return Err(BadRecoveryKey::Checksum);
        }
        let [VERSION, network, root @ ..] = symbols.as_slice() else {
            return Err(BadRecoveryKey::Unknown);
        };
        let network = *NETWORKS
            .get(usize::from(*network))
            .ok_or(BadRecoveryKey::Unknown)?;
        let root = read_root(root).ok_or(BadRecoveryKey::Unknown)?;
        Ok(Self { network, root })
    }
}

/// A network that is not in the table gets a symbol that no reader accepts; a test keeps the table complete.
fn network_symbol(network: Network) -> u8 {
    let at = NETWORKS.iter().position(|known| *known == network);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(31)
}

fn push_root(symbols: &mut Vec<u8>, root: &Root) {
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in root.expose_bytes() {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            symbols.push((bits >> held & 31) as u8);
        }
    }
    symbols.push((bits << (5 - held) & 31) as u8);
}

/// The root in the first 52 symbols; `None` where the last four bits are not zero.
fn read_root(symbols: &[u8]) -> Option<Root> {
    let mut bytes = Zeroizing::new([0; 32]);
    let mut places = bytes.iter_mut();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for symbol in symbols.get(..ROOT_SYMBOLS)? {
        bits = bits << 5 | u32::from(*symbol);
        held += 5;
        if held >= 8 {
            held -= 8;
            *places.next()? = (bits >> held & 0xff) as u8;
        }
    }
    let padded = bits & ((1 << held) - 1) == 0;
    padded.then(|| Root::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Encoded by an independent implementation.
    const KNOWN: &str = "backstop1pqqqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s0s04n0";
    const KNOWN_REGTEST: &str = "backstop1pylllllllllllllllllllllllllllllllllllllllllllllllllllsrl4j4z";

    fn known_root() -> Root {
        let mut bytes = [0; 32];
        for (to, value) in bytes.iter_mut().zip(0..) {
            *to = value;
        }
        Root::from_bytes(bytes)
    }

    fn error(text: &str) -> BadRecoveryKey {
        RecoveryKey::parse(text).err().unwrap()
    }

    #[test]
    fn a_recovery_key_is_the_text_that_an_independent_encoder_gives() {
        let text = RecoveryKey::to_text(Network::Bitcoin, &known_root());
        assert_eq!(text.replace(' ', ""), KNOWN);
        assert!(text.starts_with("backstop1 pqqq qsyq "));
        let text = RecoveryKey::to_text(Network::Regtest, &Root::from_bytes([0xff; 32]));
        assert_eq!(text.replace(' ', ""), KNOWN_REGTEST);
    }

    #[test]
    fn every_network_has_a_symbol_of_its_own() {
        for network in Network::ALL {
            let text = RecoveryKey::to_text(network, &known_root());
            let key = RecoveryKey::parse(&text).ok().unwrap();
            assert_eq!(key.network, network);
            assert!(key.root.is(&known_root()));
        }
    }

    #[test]
    fn case_blanks_and_hyphens_do_not_matter() {
        let typed = format!("  {}\n", KNOWN.to_uppercase()).replace("QQQQ", "qq-Q\u{2013}Q \t");
        assert!(RecoveryKey::parse(&typed).ok().unwrap().root.is(&known_root()));
    }

    #[test]
    fn an_error_says_what_to_look_at() {
        assert_eq!(error("lnbc1whatever"), BadRecoveryKey::Start);
        assert_eq!(error("backstop"), BadRecoveryKey::Start);
        assert_eq!(error(&KNOWN[..60]), BadRecoveryKey::Length(51));
        assert_eq!(error(&format!("{KNOWN}q")), BadRecoveryKey::Length(61));
        assert_eq!(
            error(&KNOWN.replacen("1pqq", "1pqo", 1)),
            BadRecoveryKey::Character {
                place: 3,
                character: 'o'
            }
        );
        // Bech32 itself would let q's be added before a final p.
        assert_eq!(
            error(&KNOWN.replacen("qqqq", "qqqqq", 1)),
            BadRecoveryKey::Length(61)
        );
    }

    #[test]
    fn another_version_or_network_with_a_good_checksum_is_refused_as_unknown() {
        for (place, value) in [(0, 2), (1, 5), (1, 31), (53, 1)] {
            let mut symbols: Vec<u8> = KNOWN[9..63]
                .chars()
                .map(|c| bech32m::symbol(c).unwrap())
                .collect();
            symbols[place] = value;
            symbols.extend(bech32m::checksum(HRP, &symbols));
            let text: String = symbols.iter().map(|s| bech32m::character(*s)).collect();
            assert_eq!(error(&format!("backstop1{text}")), BadRecoveryKey::Unknown);
        }
    }

    #[test]
    fn every_single_typo_and_every_swap_of_neighbours_is_found() {
        let characters: Vec<char> = KNOWN.chars().collect();
        for place in 9..characters.len() {
            for symbol in 0..32 {
                let mut typed = characters.clone();
                typed[place] = bech32m::character(symbol);
                if typed != characters {
                    assert_eq!(error(&typed.iter().collect::<String>()), BadRecoveryKey::Checksum);
                }
            }
            let mut typed = characters.clone();
            typed.swap(place, (place + 1).min(characters.len() - 1));
            if typed != characters {
                assert_eq!(error(&typed.iter().collect::<String>()), BadRecoveryKey::Checksum);
            }
        }
    }

    proptest! {
        #[test]
        fn a_recovery_key_is_read_as_it_was_written(bytes in any::<[u8; 32]>(), network in 0..5_usize) {
            let network = Network::ALL[network];
            let root = Root::from_bytes(bytes);
            let key = RecoveryKey::parse(&RecoveryKey::to_text(network, &root)).ok().unwrap();
            prop_assert_eq!(key.network, network);
            prop_assert!(key.root.is(&root));
        }

        #[test]
        fn up_to_four_wrong_characters_are_always_found(places in proptest::collection::btree_map(9..69_usize, 0..32_u8, 1..=4)) {
            let mut typed: Vec<char> = KNOWN.chars().collect();
            for (place, symbol) in places {
                typed[place] = bech32m::character(symbol);
            }
            let typed: String = typed.iter().collect();
            prop_assume!(typed != KNOWN);
            prop_assert_eq!(error(&typed), BadRecoveryKey::Checksum);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}", tail in "[a-z0-9 -]{0,120}") {
            let _ = RecoveryKey::parse(&text);
            let _ = RecoveryKey::parse(&format!("backstop1{tail}"));
        }
    }
}
