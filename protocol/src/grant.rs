//! Grants: "this access key may append, or read, for me", signed by the node's key (SPEC 4.2).
//!
//! A grant is one line of ASCII without quotes, backslashes or control characters, because `lightning-cli
//! signmessage` signs what it is given without unescaping it, and because a person sees what he signs:
//!
//! ```text
//! Backstop grant 1: access key <64 hex> may append for node <66 hex> on <network>, serial <n>, expires <never|unix seconds>
//! ```

use crate::{
    id::{AccessKey, Network, NodeId},
    signmessage,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How every grant starts. No other text that Backstop asks a node to sign starts like this.
pub const GRANT_PREFIX: &str = "Backstop grant 1: access key ";
/// Longest grant, bytes.
pub const GRANT_MAX: usize = 512;

/// What a grant, or a session, allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Scope {
    /// Fetch ciphertext, change nothing.
    Read = 1,
    /// Read, and append records and snapshots. Deletes nothing (I8).
    Append = 2,
}

impl Scope {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
        }
    }
}

/// What a grant says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The key that may open sessions.
    pub access_key: AccessKey,
    /// What those sessions may do.
    pub scope: Scope,
    /// For whom.
    pub node: NodeId,
    /// On which network.
    pub network: Network,
    /// Raised with each grant of a node; a revocation sets a floor below which none is valid.
    pub serial: u64,
    /// Seconds since 1970 after which it is void, by the server's clock; `None`: never.
    pub expires_at: Option<u64>,
}

/// A grant that is not worth its signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGrant {
    /// Not the text of a grant.
    #[error("the text is not a grant")]
    Text,
    /// Not a signature at all.
    #[error(transparent)]
    Signature(#[from] signmessage::BadSignature),
    /// Signed by another node than the one it speaks for.
    #[error("the grant speaks for node {node} but {signer} signed it")]
    Foreign {
        /// The node in the text.
        node: NodeId,
        /// The node whose key made the signature.
        signer: NodeId,
    },
}

impl BadGrant {
    /// The stable name by which test vectors and logs call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Signature(_) => "signature",
            Self::Foreign { .. } => "foreign",
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            access_key,
            scope,
            node,
            network,
            serial,
            expires_at,
        } = self;
        let scope = scope.word();
        write!(
            f,
            "{GRANT_PREFIX}{access_key} may {scope} for node {node} on {network}, serial {serial}, expires "
        )?;
        match expires_at {
            None => f.write_str("never"),
            Some(seconds) => write!(f, "{seconds}"),
        }
    }
}

impl FromStr for Grant {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<Self, BadGrant> {
        fn field<'a>(rest: &mut &'a str, end: &str) -> Result<&'a str, BadGrant> {
            let (value, tail) = rest.split_once(end).ok_or(BadGrant::Text)?;
            *rest = tail;
            Ok(value)
        }
        if text.len() > GRANT_MAX {
            return Err(BadGrant::Text);
        }
        let mut rest = text.strip_prefix(GRANT_PREFIX).ok_or(BadGrant::Text)?;
        let access_key = field(&mut rest, " may ")?.parse().map_err(|_| BadGrant::Text)?;
        let scope = match field(&mut rest, " for node ")? {
            "read" => Scope::Read,
            "append" => Scope::Append,
            _ => return Err(BadGrant::Text),
        };
        let node = field(&mut rest, " on ")?.parse().map_err(|_| BadGrant::Text)?;
        let network = field(&mut rest, ", serial ")?
            .parse()
            .map_err(|_| BadGrant::Text)?;
        let serial = field(&mut rest, ", expires ")?
            .parse()
            .map_err(|_| BadGrant::Text)?;
        let expires_at = match rest {
            "never" => None,
            seconds => Some(seconds.parse().map_err(|_| BadGrant::Text)?),
        };
        let grant = Self {
            access_key,
            scope,
            node,
            network,
            serial,
            expires_at,
        };
        // One spelling: "+7" and "007" are numbers too.
        if grant.to_string() == text && i64::try_from(serial).is_ok() {
            Ok(grant)
        } else {
            Err(BadGrant::Text)
        }
    }
}

/// A grant as it travels: its text, and what `signmessage` printed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedGrant {
    /// The text that was signed.
    pub text: String,
    /// `zbase` of `signmessage`.
    pub signature: String,
}

impl SignedGrant {
    /// Signs a grant with the node's own key.
    #[must_use]
    pub fn sign(grant: &Grant, node_key: &secp256k1::SecretKey) -> Self {
        let text = grant.to_string();
        let signature = signmessage::sign(&text, node_key);
        Self { text, signature }
    }

    /// Reads the text and checks that the node it speaks for signed it. Expiry and revocation are the server's
    /// to judge, by its own clock and floor.
    pub fn verify(&self) -> Result<Grant, BadGrant> {
        let grant: Grant = self.text.parse()?;
        let signer = signmessage::recover(&self.text, &self.signature)?;
        if signer == grant.node {
            Ok(grant)
        } else {
            Err(BadGrant::Foreign {
                node: grant.node,
                signer,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node_key(byte: u8) -> secp256k1::SecretKey {
        secp256k1::SecretKey::from_secret_bytes([byte; 32]).unwrap()
    }

    fn grant() -> Grant {
        Grant {
            access_key: AccessKey([5; 32]),
            scope: Scope::Append,
            node: NodeId(node_key(1).public_key().serialize()),
            network: Network::Regtest,
            serial: 1,
            expires_at: None,
        }
    }

    #[test]
    fn a_grant_signed_by_its_node_is_good_and_by_another_is_foreign() {
        assert_eq!(SignedGrant::sign(&grant(), &node_key(1)).verify(), Ok(grant()));
        assert!(matches!(
            SignedGrant::sign(&grant(), &node_key(2)).verify(),
            Err(BadGrant::Foreign { .. })
        ));
    }

    #[test]
    fn a_grant_changed_in_one_letter_is_no_longer_its_nodes() {
        let mut signed = SignedGrant::sign(
            &Grant {
                scope: Scope::Read,
                ..grant()
            },
            &node_key(1),
        );
        signed.text = signed.text.replace("may read", "may append");
        assert!(matches!(
            signed.verify(),
            Err(BadGrant::Foreign { .. } | BadGrant::Signature(_))
        ));
    }

    #[test]
    fn a_grant_survives_lightning_cli_unescaped() {
        let text = grant().to_string();
        assert!(
            text.bytes()
                .all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\')
        );
        assert!(text.len() <= GRANT_MAX);
    }

    #[test]
    fn numbers_have_one_spelling() {
        let text = grant().to_string();
        for (from, to) in [
            ("serial 1", "serial 01"),
            ("serial 1", "serial +1"),
            ("expires never", "expires 007"),
        ] {
            assert_eq!(text.replace(from, to).parse::<Grant>(), Err(BadGrant::Text));
        }
        assert_eq!(format!("{text} ").parse::<Grant>(), Err(BadGrant::Text));
    }

    proptest! {
        #[test]
        fn a_grant_is_read_as_it_was_written(key in any::<[u8; 32]>(), read in any::<bool>(), serial in 0..1_u64 << 63, expires_at in any::<Option<u64>>()) {
            let scope = if read { Scope::Read } else { Scope::Append };
            let grant = Grant { access_key: AccessKey(key), scope, serial, expires_at, ..grant() };
            prop_assert_eq!(grant.to_string().parse(), Ok(grant));
        }

        #[test]
        fn no_text_makes_the_parser_panic(tail in ".{0,300}") {
            let _ = format!("{GRANT_PREFIX}{tail}").parse::<Grant>();
            let _ = tail.parse::<Grant>();
        }
    }
}
