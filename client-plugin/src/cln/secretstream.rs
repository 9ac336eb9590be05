//! libsodium's `crypto_secretstream_xchacha20poly1305`, as far as an encrypted `hsm_secret` needs it: a stream of
//! one message of 32 bytes, without associated data.
//!
//! The file is header(24) ‖ tag(1) ‖ message(32) ‖ MAC(16). The key and the header's first 16 bytes give a subkey by
//! `HChaCha20`; the nonce is the counter 1 and the header's last 8 bytes. The keystream's first block is the MAC's
//! key, its second encrypts the tag (padded to a block), the rest the message.

use chacha20::{
    ChaCha20, R20,
    cipher::{KeyIvInit, StreamCipher},
    hchacha,
};
use poly1305::{
    Poly1305,
    universal_hash::{KeyInit, UniversalHash},
};
use zeroize::Zeroizing;

/// Length of a stream that holds one message of 32 bytes.
pub(super) const STREAM_LEN: usize = HEADER_LEN + 1 + MESSAGE_LEN + MAC_LEN;
const HEADER_LEN: usize = 24;
const MESSAGE_LEN: usize = 32;
const MAC_LEN: usize = 16;
const BLOCK: usize = 64;

/// The message, or `None` where the MAC does not fit: another key, or a damaged file.
pub(super) fn open(key: &[u8; 32], stream: &[u8; STREAM_LEN]) -> Option<Zeroizing<[u8; MESSAGE_LEN]>> {
    let (seed, rest) = stream.split_first_chunk::<16>()?;
    let (nonce_end, rest) = rest.split_first_chunk::<8>()?;
    let (&tag, rest) = rest.split_first()?;
    let (sealed, mac) = rest.split_first_chunk::<MESSAGE_LEN>()?;
    let mac: &[u8; MAC_LEN] = mac.try_into().ok()?;

    let mut nonce = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    nonce.last_chunk_mut::<8>()?.copy_from_slice(nonce_end);
    let subkey = Zeroizing::new(<[u8; 32]>::from(hchacha::<R20>(key.into(), seed.into())));

    let mut blocks = Zeroizing::new([0; 2 * BLOCK + MESSAGE_LEN]);
    *blocks.get_mut(BLOCK)? = tag;
    blocks.last_chunk_mut::<MESSAGE_LEN>()?.copy_from_slice(sealed);
    ChaCha20::new((&*subkey).into(), &nonce.into()).apply_keystream(&mut *blocks);
    let (mac_key, rest) = blocks.split_first_chunk_mut::<32>()?;
    let (_, rest) = rest.split_at_mut_checked(BLOCK - 32)?;
    let (tag_block, message) = rest.split_first_chunk_mut::<BLOCK>()?;

    // The MAC covers the tag's block as it stands in the keystream, but with the sealed tag in front.
    *tag_block.first_mut()? = tag;
    let mut lengths = [0; 16];
    lengths
        .last_chunk_mut::<8>()?
        .copy_from_slice(&((BLOCK + MESSAGE_LEN) as u64).to_le_bytes());
    let mut poly = Poly1305::new((&*mac_key).into());
    poly.update_padded(tag_block);
    poly.update_padded(sealed);
    poly.update_padded(&lengths);
    poly.verify(mac.into()).ok()?;
    Some(Zeroizing::new((&*message).try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Argon2id key of `test_password` and the file that CLN made with it around 32 bytes of 1.
    const KEY: &str = "e2084606c1b2aaf92a7c0c5e2d8e17839f1c736ba7c7dc7150f0844f4d63ee08";
    const FILE: &str = "579119183f1b8f1da7cc8935507ad471951d073e6f8b31be4d4ec58c594a86fb1ba479d5f2675d7ae7e111994146a61bc7905fd0342e378ed516384982a99f7207f15b4f5f609f3177";

    fn vector() -> ([u8; 32], [u8; STREAM_LEN]) {
        let bytes = |text| hex::decode(text).unwrap();
        (bytes(KEY).try_into().unwrap(), bytes(FILE).try_into().unwrap())
    }

    #[test]
    fn a_stream_of_libsodium_opens_with_its_key() {
        let (key, stream) = vector();
        assert_eq!(open(&key, &stream).map(|message| *message), Some([1; 32]));
    }

    #[test]
    fn no_stream_opens_with_one_bit_changed_in_it_or_in_the_key() {
        let (key, stream) = vector();
        for bit in 0..8 * STREAM_LEN {
            let mut changed = stream;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &changed).is_none(), "bit {bit}");
        }
        for bit in 0..256 {
            let mut changed = key;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&changed, &stream).is_none(), "bit {bit}");
        }
    }
}
