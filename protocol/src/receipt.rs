//! Receipts: what a server says, under its own signature, that it holds of a node (SPEC 7.6).
//!
//! A MAC convinces the client alone, who could have made it himself. A receipt convinces anybody who knows the server's key.

use crate::{
    clock::UnixMillis,
    hash::{sha256, tagged},
    head::Head,
    id::{Network, NodeId, ServerKey, TimelineId},
    session::{BadSecret, IdentitySecret},
};
use secp256k1::{XOnlyPublicKey, schnorr};
use serde::{Deserialize, Serialize};

/// Tag of the hash that a receipt's signature covers.
pub const RECEIPT_TAG: &str = "backstop/v1/receipt";
/// The one version of this format.
pub const RECEIPT_VERSION: u8 = 1;

/// What a server signs: at `time`, by its clock, all records of this chain up to `head` were durable with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Version of the statement, 1.
    pub version: u8,
    /// Who signs.
    pub server: ServerKey,
    /// The node.
    pub node: NodeId,
    /// Its network.
    pub network: Network,
    /// Its history; absent where the server holds no record.
    pub timeline: Option<TimelineId>,
    /// Where the chain ends.
    pub head: Head,
    /// The server's clock.
    pub time: UnixMillis,
}

/// A receipt with the signature of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// What is stated.
    pub receipt: Receipt,
    /// BIP340 over the tagged hash of SPEC 7.6, hex.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
}

/// A receipt that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReceipt {
    /// A version that this program does not know.
    #[error("it is of version {0}, which this program does not know")]
    Version(u8),
    /// A head without a timeline, or the reverse.
    #[error("it names a head without a history, or a history without a head")]
    Timeline,
    /// Another key signed it, or another statement.
    #[error("the signature is not the server's under this statement")]
    Signature,
}

impl BadReceipt {
    /// The stable name by which test vectors call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Timeline => "timeline",
            Self::Signature => "signature",
        }
    }
}

impl Receipt {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let timeline = self.timeline.map_or([0; 16], |timeline| timeline.0);
        let parts: [&[u8]; 8] = [
            &self.server.0,
            &self.node.0,
            &sha256(self.network.as_str().as_bytes()),
            &timeline,
            &self.head.epoch.to_be_bytes(),
            &self.head.seq.to_be_bytes(),
            &self.head.hash.0,
            &self.time.0.to_be_bytes(),
        ];
        tagged(RECEIPT_TAG, &parts)
    }

    /// Signs the statement; `aux` is what the nonce is made of beside the key.
    pub fn sign(self, identity: &IdentitySecret, aux: &[u8; 32]) -> Result<SignedReceipt, BadSecret> {
        let signature = identity.sign(&self.digest(), aux)?;
        Ok(SignedReceipt {
            receipt: self,
            signature,
        })
    }
}

impl SignedReceipt {
    /// Checks the signature of the server that the statement names. Whether that is the right server is for the caller.
    pub fn verify(&self) -> Result<&Receipt, BadReceipt> {
        let receipt = &self.receipt;
        if receipt.version != RECEIPT_VERSION {
            return Err(BadReceipt::Version(receipt.version));
        }
        if receipt.timeline.is_none() != receipt.head.is_empty() {
            return Err(BadReceipt::Timeline);
        }
        let key = XOnlyPublicKey::from_byte_array(receipt.server.0).map_err(|_| BadReceipt::Signature)?;
        schnorr::Signature::from_byte_array(self.signature)
            .verify(&receipt.digest(), &key)
            .map_err(|_| BadReceipt::Signature)?;
        Ok(receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RecordHash;

    fn signed() -> SignedReceipt {
        let identity = IdentitySecret::from_bytes(&[1; 32]).unwrap();
        let receipt = Receipt {
            version: RECEIPT_VERSION,
            server: identity.server_key(),
            node: NodeId([2; 33]),
            network: Network::Regtest,
            timeline: Some(TimelineId([3; 16])),
            head: Head {
                epoch: 4,
                seq: 5,
                hash: RecordHash([6; 32]),
            },
            time: UnixMillis(7),
        };
        receipt.sign(&identity, &[8; 32]).unwrap()
    }

    #[test]
    fn a_receipt_is_its_servers_and_of_nothing_else() {
        let good = signed();
        assert_eq!(good.verify(), Ok(&good.receipt));
        let spoiled = [
            Receipt {
                node: NodeId([3; 33]),
                ..good.receipt
            },
            Receipt {
                network: Network::Bitcoin,
                ..good.receipt
            },
            Receipt {
                timeline: Some(TimelineId([4; 16])),
                ..good.receipt
            },
            Receipt {
                head: Head {
                    epoch: 5,
                    ..good.receipt.head
                },
                ..good.receipt
            },
            Receipt {
                head: Head {
                    seq: 6,
                    ..good.receipt.head
                },
                ..good.receipt
            },
            Receipt {
                head: Head {
                    hash: RecordHash([7; 32]),
                    ..good.receipt.head
                },
                ..good.receipt
            },
            Receipt {
                time: UnixMillis(8),
                ..good.receipt
            },
            Receipt {
                server: IdentitySecret::from_bytes(&[2; 32]).unwrap().server_key(),
                ..good.receipt
            },
        ];
        for receipt in spoiled {
            let other = SignedReceipt { receipt, ..good };
            assert_eq!(other.verify(), Err(BadReceipt::Signature), "{receipt:?}");
        }
    }

    #[test]
    fn a_version_to_come_and_a_head_without_history_are_refused() {
        let good = signed();
        let with = |receipt| SignedReceipt { receipt, ..good }.verify().copied();
        assert_eq!(
            with(Receipt {
                version: 2,
                ..good.receipt
            }),
            Err(BadReceipt::Version(2))
        );
        assert_eq!(
            with(Receipt {
                timeline: None,
                ..good.receipt
            }),
            Err(BadReceipt::Timeline)
        );
        assert_eq!(
            with(Receipt {
                head: Head::EMPTY,
                ..good.receipt
            }),
            Err(BadReceipt::Timeline)
        );
    }
}
