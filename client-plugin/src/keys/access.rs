//! From a root to the access key: 48 bytes of HKDF, reduced (SPEC 3).
//!
//! Let `w` be those bytes as a big-endian number and `n` the order of secp256k1. The secret key is
//! `w mod (n - 1) + 1`: never zero, and with 128 bits more than `n` has, no key is likelier than another by more
//! than 2^-128. Opening a session uses the one of `d` and `n - d` whose point has an even y, as BIP340 does.

use super::Root;
use backstop_protocol::{hash::hkdf_sha256, session::IdentitySecret};
use zeroize::Zeroizing;

const INFO: &[u8] = b"backstop/v1/access";

/// `n - 1` in 64-bit limbs, the lowest first.
const ORDER_LESS_ONE: [u64; 4] = [
    0xbfd2_5e8c_d036_4140,
    0xbaae_dce6_af48_a03b,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

/// The key that opens sessions.
#[expect(
    clippy::expect_used,
    reason = "reduce returns 1 to n - 1, whatever it is given"
)]
pub(super) fn access_key(root: &Root) -> IdentitySecret {
    let mut wide = Zeroizing::new([0; 48]);
    hkdf_sha256(b"", root.expose_bytes(), INFO, &mut *wide);
    IdentitySecret::from_bytes(&reduce(&wide)).expect("a number from 1 to n - 1 is a secret key")
}

/// `wide mod (n - 1) + 1`, both big-endian. Bit by bit, and no branch depends on one: it runs once in a process.
fn reduce(wide: &[u8; 48]) -> Zeroizing<[u8; 32]> {
    let mut rest = Zeroizing::new([0_u64; 4]);
    for byte in wide {
        for shift in (0..8).rev() {
            let carry = double_and_add(&mut rest, u64::from(byte >> shift & 1));
            subtract_order_if_reached(&mut rest, carry);
        }
    }
    // Below n - 1 before, so the sum is at most n - 1 and carries nothing out.
    add_one(&mut rest);
    let mut bytes = Zeroizing::new([0; 32]);
    for (to, limb) in bytes.chunks_exact_mut(8).zip(rest.iter().rev()) {
        to.copy_from_slice(&limb.to_be_bytes());
    }
    bytes
}

/// `rest = 2 * rest + bit`; returns what no longer fits.
fn double_and_add(rest: &mut [u64; 4], bit: u64) -> u64 {
    rest.iter_mut().fold(bit, |carry, limb| {
        let out = *limb >> 63;
        *limb = *limb << 1 | carry;
        out
    })
}

/// Subtracts `n - 1` once where `carry * 2^256 + rest` has reached it. Twice is never needed: `rest` was below
/// `n - 1` before it was doubled.
fn subtract_order_if_reached(rest: &mut [u64; 4], carry: u64) {
    let mut difference = Zeroizing::new([0_u64; 4]);
    let mut borrow = false;
    for ((to, from), order) in difference.iter_mut().zip(&*rest).zip(&ORDER_LESS_ONE) {
        let (step, under) = from.overflowing_sub(*order);
        let (step, under_again) = step.overflowing_sub(u64::from(borrow));
        *to = step;
        borrow = under | under_again;
    }
    let reached = carry | u64::from(!borrow);
    let mask = reached.wrapping_neg();
    for (limb, reduced) in rest.iter_mut().zip(&*difference) {
        *limb = *reduced & mask | *limb & !mask;
    }
}

fn add_one(rest: &mut [u64; 4]) {
    let mut carry = true;
    for limb in rest {
        let (sum, over) = limb.overflowing_add(u64::from(carry));
        *limb = sum;
        carry = over;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root, secret key and public key, computed by an independent implementation of HKDF and of the curve.
    const VECTORS: [(&str, &str, &str); 4] = [
        (
            "0000000000000000000000000000000000000000000000000000000000000000",
            "5e548363c7e737c7f98a35a822fe7d3f6967f6b202c9bd6335e386d5eb157735",
            "d9a6a7f91de6160efed83ad845a2d8b0b81f3cc66ea98cf42f361313651b013c",
        ),
        (
            "0101010101010101010101010101010101010101010101010101010101010101",
            "79183e31fcd69c0d35001c33b8b4031b12f38a16176e8bfe380f4f5acec4d4a3",
            "f364e45584c7e3226049559a66b265b7503234ac46062d48bebfea286969723c",
        ),
        (
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "b593c2c08c29038813e13d25eab60025677053ba0603165a3fa02ace5daf39b0",
            "063f16238c77bad404e33b234b9caa9c4e3d763a87b9e8837b5f01940f8937b5",
        ),
        (
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "c12b1fab8095df7ed1cb9839d354686ae823d86ff1e54af0ee475e9eaceaf7c0",
            "61f1000b58ff620b8ec9078a0eba19e7e6d64d0d32fee2d5bc237c41fc1e5db6",
        ),
    ];

    #[test]
    fn the_access_key_is_the_one_that_an_independent_computation_gives() {
        for (root, secret, public) in VECTORS {
            let root = Root::from_bytes(hex::decode(root).unwrap().try_into().unwrap());
            let key = access_key(&root);
            assert_eq!(hex::encode(key.expose_bytes()), secret);
            assert_eq!(key.access_key().to_string(), public);
        }
    }

    /// Numbers around the multiples of `n - 1` and of 2^256, reduced with big integers elsewhere.
    #[test]
    fn the_reduction_is_right_at_every_edge() {
        const ONE: &str = "0000000000000000000000000000000000000000000000000000000000000001";
        const TWO: &str = "0000000000000000000000000000000000000000000000000000000000000002";
        const LARGEST: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
        let cases = [
            ("0", ONE),
            ("1", TWO),
            (
                "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd036413f",
                LARGEST,
            ),
            (
                "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140",
                ONE,
            ),
            (
                "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
                TWO,
            ),
            (
                "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                "000000000000000000000000000000014551231950b75fc4402da1732fc9bec0",
            ),
            (
                "10000000000000000000000000000000000000000000000000000000000000000",
                "000000000000000000000000000000014551231950b75fc4402da1732fc9bec1",
            ),
            (
                "2fffffffffffffffffffffffffffffffc300c96b40dd9e0b33f771ba670a2c3bf",
                LARGEST,
            ),
            (
                "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a000000000000000000000000000000000",
                ONE,
            ),
            (
                "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                "4551231950b75fc4402da1732fc9bec14551231950b75fc4402da1732fc9bec0",
            ),
        ];
        for (wide, want) in cases {
            let wide = hex::decode(format!("{wide:0>96}")).unwrap().try_into().unwrap();
            assert_eq!(hex::encode(*reduce(&wide)), want);
        }
    }
}
