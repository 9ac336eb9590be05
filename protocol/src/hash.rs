//! The few hash constructions of the protocol (SPEC 2).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Bytes that are hashed in one go.
const TURN: usize = 64 << 10;

/// `SHA256(bytes)`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The same of a long input that nobody waits for: between pieces the thread offers its core to others, as a kernel may let it run
/// out its slice of some milliseconds before a thread that was woken gets one.
#[must_use]
pub fn sha256_in_turns(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (at, piece) in bytes.chunks(TURN).enumerate() {
        if at > 0 {
            std::thread::yield_now();
        }
        hash.update(piece);
    }
    hash.finalize().into()
}

/// BIP340's tagged hash: `SHA256(SHA256(tag) || SHA256(tag) || parts…)`.
#[must_use]
pub fn tagged(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    let tag = sha256(tag.as_bytes());
    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update(tag);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// `HMAC-SHA256(key, parts…)`.
#[must_use]
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // The key has the fixed length that the key block holds whole: this constructor has no error case.
    let mut mac = Hmac::<Sha256>::new(&{
        let mut block = [0_u8; 64];
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        block.into()
    });
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `HKDF-SHA256` (RFC 5869) with the output in `okm`, at most 8160 bytes.
///
/// # Panics
/// Never for outputs of that length; lengths are constants of the protocol, not input.
#[expect(clippy::expect_used, reason = "the length is a constant of the caller")]
pub fn hkdf_sha256(salt: &[u8], ikm: &[u8], info: &[u8], okm: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(info, okm)
        .expect("at most 255 blocks");
}

/// Equality in constant time, for MACs and anything derived from a key.
#[must_use]
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_has_the_same_hash_in_turns_as_in_one_go() {
        for len in [0, 1, TURN - 1, TURN, TURN + 1, 3 * TURN, 3 * TURN + 5] {
            let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
            assert_eq!(sha256_in_turns(&bytes), sha256(&bytes), "{len} bytes");
        }
    }
}
