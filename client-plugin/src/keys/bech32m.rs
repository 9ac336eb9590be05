//! Bech32m (BIP350), as far as a recovery key needs it: a checksum that finds every error of up to four
//! characters in a text of at most 90.

/// A symbol is five bits; this is how it is written. `1`, `b`, `i` and `o` are left out: they look like others.
const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
const FINAL: u32 = 0x2bc8_30a3;
/// Symbols of checksum.
pub(super) const CHECKSUM_LEN: usize = 6;

/// The symbol that a lower-case character stands for.
pub(super) fn symbol(character: char) -> Option<u8> {
    let at = ALPHABET.iter().position(|c| char::from(*c) == character)?;
    u8::try_from(at).ok()
}

/// The character of a symbol, of which only the low five bits count.
pub(super) fn character(symbol: u8) -> char {
    ALPHABET
        .get(usize::from(symbol & 31))
        .map_or('q', |c| char::from(*c))
}

/// The six symbols that follow `symbols` under the human-readable part `hrp`.
pub(super) fn checksum(hrp: &str, symbols: &[u8]) -> [u8; CHECKSUM_LEN] {
    let sum = polymod(hrp, symbols.iter().chain(&[0; CHECKSUM_LEN])) ^ FINAL;
    [25, 20, 15, 10, 5, 0].map(|shift| (sum >> shift & 31) as u8)
}

/// Whether `symbols` end in their checksum under `hrp`.
pub(super) fn is_valid(hrp: &str, symbols: &[u8]) -> bool {
    polymod(hrp, symbols.iter()) == FINAL
}

fn polymod<'a>(hrp: &str, symbols: impl Iterator<Item = &'a u8>) -> u32 {
    let high = hrp.bytes().map(|c| c >> 5);
    let low = hrp.bytes().map(|c| c & 31);
    let expanded = high.chain([0]).chain(low);
    expanded.chain(symbols.copied()).fold(1, |sum, symbol| {
        let shifted = (sum & 0x01ff_ffff) << 5 ^ u32::from(symbol);
        let top = sum >> 25;
        GENERATOR.iter().enumerate().fold(
            shifted,
            |sum, (bit, term)| {
                if top >> bit & 1 == 1 { sum ^ term } else { sum }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, Vec<u8>) {
        let text = text.to_lowercase();
        let (hrp, data) = text.rsplit_once('1').unwrap();
        (hrp.to_owned(), data.chars().map(|c| symbol(c).unwrap()).collect())
    }

    #[test]
    fn the_valid_texts_of_bip350_are_valid() {
        for text in [
            "A1LQFN3A",
            "a1lqfn3a",
            "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
            "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
            "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
            "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
            "?1v759aa",
        ] {
            let (hrp, symbols) = parse(text);
            assert!(is_valid(&hrp, &symbols), "{text}");
            let (data, sum) = symbols.split_at(symbols.len() - CHECKSUM_LEN);
            assert_eq!(checksum(&hrp, data), sum, "{text}");
        }
    }

    #[test]
    fn a_checksum_of_the_older_bech32_is_not_valid() {
        let (hrp, symbols) = parse("A12UEL5L");
        assert!(!is_valid(&hrp, &symbols));
    }

    #[test]
    fn every_symbol_is_read_as_it_is_written() {
        for value in 0..32 {
            assert_eq!(symbol(character(value)), Some(value));
        }
        for c in "1bioBQ é".chars() {
            assert_eq!(symbol(c), None);
        }
    }
}
