//! Revocations: "no grant below this serial is valid any more", signed by the node's key (SPEC 4.6).

use crate::{
    grant::{BadGrant, GRANT_MAX},
    id::{Network, NodeId},
    signmessage,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How every revocation starts. No other text that Backstop asks a node to sign starts like this.
pub const REVOCATION_PREFIX: &str = "Backstop revocation 1: no grant of node ";

/// What a revocation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose grants.
    pub node: NodeId,
    /// On which network.
    pub network: Network,
    /// The lowest serial that stays valid; above zero.
    pub floor: u64,
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, network, floor } = self;
        write!(
            f,
            "{REVOCATION_PREFIX}{node} on {network} with a serial below {floor} is valid"
        )
    }
}

impl FromStr for Revocation {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<Self, BadGrant> {
        if text.len() > GRANT_MAX {
            return Err(BadGrant::Text);
        }
        let rest = text.strip_prefix(REVOCATION_PREFIX).ok_or(BadGrant::Text)?;
        let (node, rest) = rest.split_once(" on ").ok_or(BadGrant::Text)?;
        let (network, rest) = rest.split_once(" with a serial below ").ok_or(BadGrant::Text)?;
        let floor = rest.strip_suffix(" is valid").ok_or(BadGrant::Text)?;
        let revocation = Self {
            node: node.parse().map_err(|_| BadGrant::Text)?,
            network: network.parse().map_err(|_| BadGrant::Text)?,
            floor: floor.parse().map_err(|_| BadGrant::Text)?,
        };
        // One spelling: "+7" and "007" are numbers too.
        if revocation.to_string() == text && i64::try_from(revocation.floor).is_ok_and(|floor| floor > 0) {
            Ok(revocation)
        } else {
            Err(BadGrant::Text)
        }
    }
}

/// A revocation as it travels: its text, and what `signmessage` printed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRevocation {
    /// The text that was signed.
    pub text: String,
    /// `zbase` of `signmessage`.
    pub signature: String,
}

impl SignedRevocation {
    /// Signs a revocation with the node's own key.
    #[must_use]
    pub fn sign(revocation: &Revocation, node_key: &secp256k1::SecretKey) -> Self {
        let text = revocation.to_string();
        let signature = signmessage::sign(&text, node_key);
        Self { text, signature }
    }

    /// Reads the text and checks that the node it speaks for signed it.
    pub fn verify(&self) -> Result<Revocation, BadGrant> {
        let revocation: Revocation = self.text.parse()?;
        let signer = signmessage::recover(&self.text, &self.signature)?;
        if signer == revocation.node {
            Ok(revocation)
        } else {
            Err(BadGrant::Foreign {
                node: revocation.node,
                signer,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{GRANT_PREFIX, Grant};
    use proptest::prelude::*;

    fn node_key(byte: u8) -> secp256k1::SecretKey {
        secp256k1::SecretKey::from_secret_bytes([byte; 32]).unwrap()
    }

    fn revocation() -> Revocation {
        Revocation {
            node: NodeId(node_key(1).public_key().serialize()),
            network: Network::Regtest,
            floor: 7,
        }
    }

    #[test]
    fn a_revocation_signed_by_its_node_is_good_and_by_another_is_foreign() {
        let signed = |byte| SignedRevocation::sign(&revocation(), &node_key(byte)).verify();
        assert_eq!(signed(1), Ok(revocation()));
        assert!(matches!(signed(2), Err(BadGrant::Foreign { .. })));
    }

    #[test]
    fn a_revocation_is_no_grant_and_survives_lightning_cli_unescaped() {
        let text = revocation().to_string();
        assert!(text.parse::<Grant>().is_err());
        assert!(!text.starts_with(GRANT_PREFIX) && !GRANT_PREFIX.starts_with(REVOCATION_PREFIX));
        let plain = |byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
        assert!(text.bytes().all(plain) && text.len() <= GRANT_MAX);
    }

    #[test]
    fn a_floor_has_one_spelling_and_is_above_zero() {
        let text = revocation().to_string();
        for floor in ["0", "07", "+7", "-7", "", "9223372036854775808"] {
            let other = text.replace("below 7", &format!("below {floor}"));
            assert_eq!(other.parse::<Revocation>(), Err(BadGrant::Text), "{other}");
        }
        assert_eq!(format!("{text} ").parse::<Revocation>(), Err(BadGrant::Text));
    }

    proptest! {
        #[test]
        fn a_revocation_is_read_as_it_was_written(floor in 1..1_u64 << 63) {
            let revocation = Revocation { floor, ..revocation() };
            prop_assert_eq!(revocation.to_string().parse(), Ok(revocation));
        }

        #[test]
        fn no_text_makes_the_parser_panic(tail in ".{0,300}") {
            let _ = format!("{REVOCATION_PREFIX}{tail}").parse::<Revocation>();
            let _ = tail.parse::<Revocation>();
        }
    }
}
