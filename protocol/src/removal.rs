//! Removals: "remove my backup from this server", or "keep it after all", signed by the node's key (SPEC 4.5).
//!
//! ```text
//! Backstop removal 1: remove the backup of node <66 hex> on <network> from server <64 hex>, asked at <milliseconds>
//! ```

use crate::{
    clock::UnixMillis,
    id::{Network, NodeId, ServerKey},
    signmessage,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How every removal starts. No other text that Backstop asks a node to sign starts like this.
pub const REMOVAL_PREFIX: &str = "Backstop removal 1: ";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// All of the node's data is to go, once the server's delay is over.
    Remove,
    /// It stays after all.
    Keep,
}

/// What a removal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalWord {
    /// What is asked for.
    pub wish: Wish,
    /// Whose backup.
    pub node: NodeId,
    /// On which network.
    pub network: Network,
    /// From which server; another one refuses it.
    pub server: ServerKey,
    /// When it was asked for, by the client's clock, below 2^63. A server takes each account's only in ascending order, and only while it
    /// is fresh.
    pub asked_at: UnixMillis,
}

/// A removal that is not worth its signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRemoval {
    /// Not the text of a removal.
    #[error("the text is not a removal")]
    Text,
    /// Not a signature at all.
    #[error(transparent)]
    Signature(#[from] signmessage::BadSignature),
    /// Signed by another node than the one it speaks for.
    #[error("the removal speaks for node {node} but {signer} signed it")]
    Foreign {
        /// The node in the text.
        node: NodeId,
        /// The node whose key made the signature.
        signer: NodeId,
    },
}

impl fmt::Display for RemovalWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            wish,
            node,
            network,
            server,
            asked_at,
        } = self;
        let (verb, at) = match wish {
            Wish::Remove => ("remove", "from"),
            Wish::Keep => ("keep", "at"),
        };
        write!(
            f,
            "{REMOVAL_PREFIX}{verb} the backup of node {node} on {network} {at} server {server}, asked at {}",
            asked_at.0
        )
    }
}

impl FromStr for RemovalWord {
    type Err = BadRemoval;

    fn from_str(text: &str) -> Result<Self, BadRemoval> {
        let read = || -> Option<Self> {
            let rest = text.strip_prefix(REMOVAL_PREFIX)?;
            let (wish, rest) = rest.split_once(" the backup of node ")?;
            let (wish, at) = match wish {
                "remove" => (Wish::Remove, " from server "),
                "keep" => (Wish::Keep, " at server "),
                _ => return None,
            };
            let (node, rest) = rest.split_once(" on ")?;
            let (network, rest) = rest.split_once(at)?;
            let (server, asked_at) = rest.split_once(", asked at ")?;
            Some(Self {
                wish,
                node: node.parse().ok()?,
                network: network.parse().ok()?,
                server: server.parse().ok()?,
                asked_at: UnixMillis(asked_at.parse().ok()?),
            })
        };
        // One spelling: "+7" and "007" are numbers too.
        read()
            .filter(|removal| removal.to_string() == text && i64::try_from(removal.asked_at.0).is_ok())
            .ok_or(BadRemoval::Text)
    }
}

/// A removal as it travels: its text, and what `signmessage` printed for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRemoval {
    /// The text that was signed.
    pub text: String,
    /// `zbase` of `signmessage`.
    pub signature: String,
}

impl SignedRemoval {
    /// Signs a removal with the node's own key.
    #[must_use]
    pub fn sign(removal: &RemovalWord, node_key: &secp256k1::SecretKey) -> Self {
        let text = removal.to_string();
        let signature = signmessage::sign(&text, node_key);
        Self { text, signature }
    }

    /// Reads the text and checks that the node it speaks for signed it. Whether it is fresh and meant for this server is
    /// for the server to judge.
    pub fn verify(&self) -> Result<RemovalWord, BadRemoval> {
        let removal: RemovalWord = self.text.parse()?;
        let signer = signmessage::recover(&self.text, &self.signature)?;
        if signer == removal.node {
            Ok(removal)
        } else {
            Err(BadRemoval::Foreign {
                node: removal.node,
                signer,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::GRANT_PREFIX;
    use proptest::prelude::*;

    fn key(byte: u8) -> secp256k1::SecretKey {
        secp256k1::SecretKey::from_secret_bytes([byte; 32]).unwrap()
    }

    fn removal(wish: Wish) -> RemovalWord {
        RemovalWord {
            wish,
            node: NodeId(key(1).public_key().serialize()),
            network: Network::Regtest,
            server: ServerKey([7; 32]),
            asked_at: UnixMillis(1_700_000_000_000),
        }
    }

    #[test]
    fn a_removal_is_read_as_it_was_written_and_is_no_grant() {
        for wish in [Wish::Remove, Wish::Keep] {
            let removal = removal(wish);
            let text = removal.to_string();
            assert_eq!(text.parse(), Ok(removal));
            assert!(text.is_ascii() && !text.contains(['"', '\\']));
            assert!(!text.starts_with(GRANT_PREFIX));
            assert_eq!(SignedRemoval::sign(&removal, &key(1)).verify(), Ok(removal));
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let text = removal(Wish::Remove).to_string();
        for other in [
            text.replace("asked at 1", "asked at +1"),
            text.replace("asked at 1", "asked at 01"),
            text.replace(" from server", " at server"),
            text.replace("remove", "keep"),
            format!("{text} "),
            text.to_uppercase(),
            text.replace("asked at 1700000000000", "asked at 9223372036854775808"),
        ] {
            assert_eq!(other.parse::<RemovalWord>(), Err(BadRemoval::Text), "{other}");
        }
    }

    #[test]
    fn another_nodes_signature_is_foreign() {
        let signed = SignedRemoval::sign(&removal(Wish::Remove), &key(2));
        assert!(matches!(signed.verify(), Err(BadRemoval::Foreign { .. })));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(Backstop removal 1: )?[ -~]{0,200}") {
            let _ = text.parse::<RemovalWord>();
        }
    }
}
