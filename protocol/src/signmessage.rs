//! CLN's `signmessage`: ECDSA with the node's key over a prefixed text, recoverable, in zbase32 (SPEC 4.1).

use crate::{hash::sha256, id::NodeId};
use secp256k1::{
    Message, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
const PREFIX: &[u8] = b"Lightning Signed Message:";
/// A header byte and 64 bytes of signature, five bits a character.
const ZBASE_LEN: usize = 104;
const RAW_LEN: usize = 65;

/// A signature that does not have the form that `signmessage` prints, or was made by no key at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature of lightning-cli signmessage (104 characters of zbase32)")]
pub struct BadSignature;

fn digest(text: &str) -> Message {
    Message::from_digest(sha256(&sha256(&[PREFIX, text.as_bytes()].concat())))
}

/// Signs `text` as `lightning-cli signmessage` does; returns what it calls `zbase`.
#[must_use]
pub fn sign(text: &str, node_key: &SecretKey) -> String {
    let (recovery, compact) =
        RecoverableSignature::sign_ecdsa_recoverable(digest(text), node_key).serialize_compact();
    let mut raw = Vec::with_capacity(RAW_LEN);
    // Recovery ids are 0 to 3; 31 says "compressed key".
    raw.push(31 + recovery as u8);
    raw.extend_from_slice(&compact);
    encode(&raw)
}

/// The node whose key signed `text`. Any well-formed signature was made by some node: compare the answer.
pub fn recover(text: &str, zbase: &str) -> Result<NodeId, BadSignature> {
    let raw = decode(zbase)?;
    let (&header, compact) = raw.split_first().ok_or(BadSignature)?;
    let recovery = i32::from(header.checked_sub(31).ok_or(BadSignature)?);
    let recovery = RecoveryId::try_from(recovery).map_err(|_| BadSignature)?;
    let signature = RecoverableSignature::from_compact(compact, recovery).map_err(|_| BadSignature)?;
    // One spelling a signature: libsecp recovers from a high s too, and CLN never makes one.
    let mut low = signature.to_standard();
    low.normalize_s();
    if low != signature.to_standard() {
        return Err(BadSignature);
    }
    signature
        .recover_ecdsa(digest(text))
        .map(|key| NodeId(key.serialize()))
        .map_err(|_| BadSignature)
}

fn encode(raw: &[u8]) -> String {
    let mut out = String::with_capacity(ZBASE_LEN);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in raw {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.extend(ALPHABET.get((bits >> held & 31) as usize).map(|c| char::from(*c)));
        }
    }
    out
}

fn decode(zbase: &str) -> Result<Vec<u8>, BadSignature> {
    // 65 bytes are 104 characters exactly: no spare bits, so no second spelling.
    if zbase.len() != ZBASE_LEN {
        return Err(BadSignature);
    }
    let mut raw = Vec::with_capacity(RAW_LEN);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in zbase.bytes() {
        let value = ALPHABET.iter().position(|a| *a == c).ok_or(BadSignature)?;
        bits = (bits << 5) | u32::try_from(value).map_err(|_| BadSignature)?;
        held += 5;
        if held >= 8 {
            held -= 8;
            raw.push((bits >> held & 0xff) as u8);
        }
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> SecretKey {
        SecretKey::from_secret_bytes([0x11; 32]).unwrap()
    }

    #[test]
    fn what_a_node_signed_names_the_node() {
        let zbase = sign("hello", &key());
        let node = NodeId(key().public_key().serialize());
        assert_eq!(recover("hello", &zbase), Ok(node));
        assert_ne!(recover("hellp", &zbase), Ok(node));
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let zbase = sign("hello", &key());
        assert!(recover("hello", &zbase.to_uppercase()).is_err());
        assert!(recover("hello", &zbase[1..]).is_err());
        assert!(recover("hello", &format!("{zbase}y")).is_err());
        assert!(recover("hello", &"y".repeat(ZBASE_LEN)).is_err());
    }

    proptest! {
        #[test]
        fn zbase32_is_read_as_it_was_written(raw in proptest::collection::vec(any::<u8>(), RAW_LEN)) {
            prop_assert_eq!(decode(&encode(&raw)), Ok(raw));
        }

        #[test]
        fn no_text_makes_the_verifier_panic(zbase in "[ybndrfg8ejkmcpqxot1uwisza345h769]{104}", text in ".*") {
            let _ = recover(&text, &zbase);
        }
    }
}
