//! What CLN's hsmd derives from a node's secret (`hsmd/libhsmd.c`), all by HKDF-SHA256.

use crate::keys::Root;
use backstop_protocol::{
    grant::{Grant, SignedGrant},
    hash::hkdf_sha256,
    id::{Network, NodeId},
    removal::{RemovalWord, SignedRemoval},
    signmessage,
};
use secp256k1::SecretKey;
use zeroize::Zeroizing;

/// A node's secret as hsmd holds it: 32 bytes, or the 64-byte seed of a mnemonic; wiped when dropped (I11).
///
/// The trap: the node's key comes from the first 32 bytes alone, `makesecret` from all of them. So a mnemonic and
/// the first half of its seed are the same node with different roots.
pub struct NodeSecret(Bytes);

enum Bytes {
    Short(Zeroizing<[u8; 32]>),
    Seed(Zeroizing<[u8; 64]>),
}

impl NodeSecret {
    /// The secret of a node whose `hsm_secret` holds 32 bytes, plain or encrypted.
    #[must_use]
    pub fn short(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Bytes::Short(bytes))
    }

    /// The secret of a node whose `hsm_secret` holds a mnemonic: its BIP39 seed.
    #[must_use]
    pub fn seed(bytes: Zeroizing<[u8; 64]>) -> Self {
        Self(Bytes::Seed(bytes))
    }

    fn all(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(bytes) => bytes.as_slice(),
            Bytes::Seed(bytes) => bytes.as_slice(),
        }
    }

    fn first_half(&self) -> &[u8] {
        let all = self.all();
        all.get(..32).unwrap_or(all)
    }

    /// The key behind the node's id.
    #[must_use]
    pub fn node_key(&self) -> NodeKey {
        let mut salt = 0_u32;
        loop {
            let mut bytes = Zeroizing::new([0; 32]);
            hkdf_sha256(&salt.to_ne_bytes(), self.first_half(), b"nodeid", &mut *bytes);
            if let Ok(key) = SecretKey::from_secret_bytes(*bytes) {
                return NodeKey(key);
            }
            // hsmd does the same; one secret in 2^128 gets here.
            salt = salt.wrapping_add(1);
        }
    }

    /// The node's id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_key().node_id()
    }

    /// What `lightning-cli makesecret hex=<info in hex>` answers.
    #[must_use]
    pub fn makesecret(&self, info: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut derived = Zeroizing::new([0; 32]);
        hkdf_sha256(b"", self.all(), b"derived secrets", &mut *derived);
        let mut secret = Zeroizing::new([0; 32]);
        hkdf_sha256(b"", &*derived, info, &mut *secret);
        secret
    }

    /// The root of all of Backstop's keys: `makesecret` of [`root_info`].
    #[must_use]
    pub fn backstop_root(&self, network: Network, generation: u32) -> Root {
        Root::from_bytes(*self.makesecret(root_info(network, generation).as_bytes()))
    }
}

/// The generation of a root that nobody asked otherwise for. A higher one gives new keys where a key file was stolen.
pub const FIRST_GENERATION: u32 = 1;

/// The string from which `makesecret` makes a root: `backstop/v1/root/<network>/<generation>`, the generation in
/// decimal without leading zeros. `lightning-cli makesecret hex=…` takes the hex digits of exactly these bytes.
#[must_use]
pub fn root_info(network: Network, generation: u32) -> String {
    format!("backstop/v1/root/{network}/{generation}")
}

/// A node's secret key; wiped when dropped (I11). It signs grants, and Backstop keeps it nowhere.
pub struct NodeKey(SecretKey);

impl NodeKey {
    /// The node's id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.0.public_key().serialize())
    }

    /// What `lightning-cli signmessage` calls `zbase`.
    #[must_use]
    pub fn signmessage(&self, text: &str) -> String {
        signmessage::sign(text, &self.0)
    }

    /// Signs a grant.
    #[must_use]
    pub fn sign_grant(&self, grant: &Grant) -> SignedGrant {
        SignedGrant::sign(grant, &self.0)
    }

    /// Signs a word on the removal of the node's backup.
    #[must_use]
    pub fn sign_removal(&self, word: &RemovalWord) -> SignedRemoval {
        SignedRemoval::sign(word, &self.0)
    }
}

impl Drop for NodeKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: [u8; 32]) -> NodeSecret {
        NodeSecret::short(Zeroizing::new(bytes))
    }

    fn lightning_1() -> NodeSecret {
        let mut bytes = [0; 32];
        bytes[..11].copy_from_slice(b"lightning-1");
        plain(bytes)
    }

    fn check(secret: &NodeSecret, id: &str, scb: &str) {
        assert_eq!(secret.node_id().to_string(), id);
        assert_eq!(hex::encode(*secret.makesecret(b"scb secret")), scb);
    }

    #[test]
    fn a_32_byte_secret_gives_the_id_and_the_secrets_that_cln_gives() {
        check(
            &lightning_1(),
            "0266e4598d1d3c415f572a8488830b60f7e744ed9235eb0b1ba93283b315c03518",
            "a9a2e742405c28f059349132923a99337ae7f71168b7485496e3365f5bc664ed",
        );
        check(
            &plain([1; 32]),
            "026f61d7ee82f937f9697f4f3e44bfaaa25849cc4f526b3a57326130eba6346002",
            "1dc7e45fb742c52c90fe588001441ea63651d469285b34ed508ef909bd3db7bc",
        );
    }

    #[test]
    fn half_a_seed_is_the_same_node_with_other_secrets() {
        let mut seed = [7; 64];
        seed[32..].fill(8);
        let whole = NodeSecret::seed(Zeroizing::new(seed));
        let half = plain([7; 32]);
        assert_eq!(whole.node_id(), half.node_id());
        assert_ne!(*whole.makesecret(b"x"), *half.makesecret(b"x"));
    }

    #[test]
    fn a_root_belongs_to_one_network_and_one_generation() {
        assert_eq!(root_info(Network::Bitcoin, 1), "backstop/v1/root/bitcoin/1");
        let secret = lightning_1();
        let root = secret.backstop_root(Network::Bitcoin, 1);
        assert!(root.is(&Root::from_bytes(
            *secret.makesecret(b"backstop/v1/root/bitcoin/1")
        )));
        assert!(!root.is(&secret.backstop_root(Network::Regtest, 1)));
        assert!(!root.is(&secret.backstop_root(Network::Bitcoin, 2)));
    }
}
