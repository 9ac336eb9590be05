//! Names: fixed-size identifiers with one textual form, lower-case hex (SPEC 1).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};

/// Text that is not an identifier of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {expected}")]
pub struct BadId {
    /// What should have stood there.
    pub expected: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes of a slice of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, BadId> {
                bytes.try_into().map(Self).map_err(|_| BadId { expected: $what })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let mut bytes = [0; $len];
                // One spelling only: upper case would let one name be signed as another text.
                if text.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
                    return Err(BadId { expected: $what });
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

identifier!(
    /// A CLN node: its compressed public key. Only the length is checked here; a signature proves the rest.
    NodeId, 33, "node id (66 hex digits)"
);
identifier!(
    /// A server's identity: a BIP340 x-only key, pinned at `setup`.
    ServerKey, 32, "server key (64 hex digits)"
);
identifier!(
    /// The public half of the key that opens sessions: a BIP340 x-only key.
    AccessKey, 32, "access key (64 hex digits)"
);
identifier!(
    /// One linear history of a node.
    TimelineId, 16, "timeline (32 hex digits)"
);
identifier!(
    /// The one lightning-dir that may write.
    InstanceId, 16, "instance (32 hex digits)"
);
identifier!(
    /// One life of the plugin process as the writer.
    RunId, 16, "run (32 hex digits)"
);
identifier!(
    /// One snapshot; random, so that a gap record can name it before its manifest exists.
    SnapshotId, 16, "snapshot (32 hex digits)"
);
identifier!(
    /// SHA-256 of a whole sealed record.
    RecordHash, 32, "record hash (64 hex digits)"
);
identifier!(
    /// Keyed hash of a chunk's plaintext: equal pieces of one node's database have equal ids, and only the node can tell which.
    ChunkId, 32, "chunk id (64 hex digits)"
);
identifier!(
    /// SHA-256 of a whole pack.
    PackId, 32, "pack id (64 hex digits)"
);

identifier!(
    /// What a server gives to one browser, to be signed by a node.
    Challenge, 16, "challenge (32 hex digits)"
);

impl RecordHash {
    /// What the first record of a timeline names as the one before it.
    pub const NONE: Self = Self([0; 32]);
}

/// A CLN network, as in the name of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Network {
    /// Bitcoin's main network.
    Bitcoin,
    /// Test network 3.
    Testnet,
    /// Test network 4.
    Testnet4,
    /// Signed test network.
    Signet,
    /// A private test chain.
    Regtest,
}

impl Network {
    /// All networks, in the order in which they are listed to a person.
    pub const ALL: [Self; 5] = [
        Self::Bitcoin,
        Self::Testnet,
        Self::Testnet4,
        Self::Signet,
        Self::Regtest,
    ];

    /// The name CLN uses, also of the directory.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Testnet => "testnet",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Network {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Self::ALL
            .into_iter()
            .find(|network| network.as_str() == text)
            .ok_or(BadId {
                expected: "network (bitcoin, testnet, testnet4, signet or regtest)",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_one_spelling() {
        let id = RunId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<RunId>().is_err());
        assert!("ab".parse::<RunId>().is_err());
        assert!(format!("{id}00").parse::<RunId>().is_err());
        assert_eq!(serde_json::from_str::<RunId>(&format!("\"{id}\"")).unwrap(), id);
    }

    #[test]
    fn every_network_is_known_by_the_name_it_prints() {
        for network in Network::ALL {
            assert_eq!(network.to_string().parse(), Ok(network));
            assert_eq!(serde_json::to_string(&network).unwrap(), format!("\"{network}\""));
        }
        assert!("Bitcoin".parse::<Network>().is_err());
    }
}
