//! Sessions: a signed opening, then a MAC on every request and every answer (SPEC 4.3, 4.4).
//!
//! Both sides derive the keys from one static ECDH secret, so no key travels. Answers carry a MAC too: on plain HTTP
//! a hop could otherwise invent the very word that lets lightningd commit (I2).

use crate::{
    clock::UnixMillis,
    grant::{Scope, SignedGrant},
    hash::{hkdf_sha256, hmac_sha256, sha256, tagged},
    id::{AccessKey, InstanceId, Network, NodeId, RunId, ServerKey},
};
use secp256k1::{Keypair, Parity, PublicKey, SecretKey, XOnlyPublicKey, ecdh::SharedSecret, schnorr};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Tag of the hash that an opening's signature covers.
pub const OPEN_TAG: &str = "backstop/v1/open";
/// HKDF info of a session's key.
pub const SESSION_INFO: &str = "backstop/v1/session";
/// HKDF info of the key of an opening's answer.
pub const OPENING_INFO: &str = "backstop/v1/opening";
/// What the input of a request's MAC starts with; a zero byte follows.
pub const REQUEST_LABEL: &str = "backstop/v1/request";
/// What the input of an answer's MAC starts with; a zero byte follows.
pub const ANSWER_LABEL: &str = "backstop/v1/answer";

/// Bytes that are no secret key: zero, or not below the order of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secret key")]
pub struct BadSecret;

/// A public key that lies on no point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key")]
pub struct BadPublic;

/// A signature that the key did not make over this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit the request")]
pub struct BadOpening;

/// The secret half of an access key or of a server's identity; wiped when dropped (I11).
pub struct IdentitySecret {
    bytes: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl IdentitySecret {
    /// Takes 32 bytes as a secret key. The key whose point has an even y is used, so that its x alone names it.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, BadSecret> {
        let mut secret = SecretKey::from_secret_bytes(*bytes).map_err(|_| BadSecret)?;
        let (x, parity) = secret.x_only_public_key();
        if parity == Parity::Odd {
            secret = secret.negate();
        }
        let kept = Self {
            bytes: Zeroizing::new(secret.to_secret_bytes()),
            public: x.to_byte_array(),
        };
        secret.non_secure_erase();
        Ok(kept)
    }

    /// The public half, as a client's name for itself.
    #[must_use]
    pub fn access_key(&self) -> AccessKey {
        AccessKey(self.public)
    }

    /// The public half, as a server's name for itself.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        ServerKey(self.public)
    }

    /// The key's bytes, to be written to a key file and nowhere else.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The secret that this key and `peer` share.
    pub fn shared_with(&self, peer: &[u8; 32]) -> Result<PairSecret, BadPublic> {
        let x = XOnlyPublicKey::from_byte_array(*peer).map_err(|_| BadPublic)?;
        let point = PublicKey::from_x_only_public_key(x, Parity::Even);
        let mut secret = SecretKey::from_secret_bytes(*self.bytes).map_err(|_| BadPublic)?;
        let shared = SharedSecret::new(&point, &secret).to_secret_bytes();
        secret.non_secure_erase();
        Ok(PairSecret(Zeroizing::new(shared)))
    }

    pub(crate) fn sign(&self, digest: &[u8; 32], aux: &[u8; 32]) -> Result<[u8; 64], BadSecret> {
        let mut pair = Keypair::from_secret_bytes(*self.bytes).map_err(|_| BadSecret)?;
        let signature = schnorr::sign_with_aux_rand(digest, &pair, aux).to_byte_array();
        pair.non_secure_erase();
        Ok(signature)
    }
}

/// The ECDH secret of one access key and one server.
pub struct PairSecret(Zeroizing<[u8; 32]>);

impl PairSecret {
    /// The key of a session, from the token that names it.
    #[must_use]
    pub fn session_key(&self, token: &str) -> SessionKey {
        self.derive(&sha256(token.as_bytes()), SESSION_INFO)
    }

    /// The key of the answer to an opening, from the opening's body.
    #[must_use]
    pub fn opening_key(&self, body: &[u8]) -> SessionKey {
        self.derive(&sha256(body), OPENING_INFO)
    }

    fn derive(&self, salt: &[u8; 32], info: &str) -> SessionKey {
        let mut key = SessionKey([0; 32]);
        hkdf_sha256(salt, &*self.0, info.as_bytes(), &mut key.0);
        key
    }
}

/// A key under which requests and answers carry MACs; wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The MAC of a request: method, path with query, counter, SHA-256 of the body.
    #[must_use]
    pub fn request_mac(&self, method: &str, path: &str, counter: u64, body_hash: &[u8; 32]) -> [u8; 32] {
        let path_len = u32::try_from(path.len()).unwrap_or(u32::MAX).to_be_bytes();
        let counter = counter.to_be_bytes();
        let parts: [&[u8]; 8] = [
            REQUEST_LABEL.as_bytes(),
            b"\0",
            method.as_bytes(),
            b"\0",
            &path_len,
            path.as_bytes(),
            &counter,
            body_hash,
        ];
        hmac_sha256(&self.0, &parts)
    }

    /// The MAC of an answer: the request's MAC (zeros for an opening), status, SHA-256 of the body.
    #[must_use]
    pub fn answer_mac(&self, request_mac: &[u8; 32], status: u16, body_hash: &[u8; 32]) -> [u8; 32] {
        let status = status.to_be_bytes();
        hmac_sha256(
            &self.0,
            &[ANSWER_LABEL.as_bytes(), b"\0", request_mac, &status, body_hash],
        )
    }
}

/// A writer's claim: who it is and which epoch it expects and wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterClaim {
    /// The lightning-dir that wants to write.
    pub instance: InstanceId,
    /// The life of the plugin process that wants to write.
    pub run: RunId,
    /// The epoch that the server is expected to be at.
    pub expected_epoch: u64,
    /// The epoch to raise it to; above `expected_epoch`.
    pub epoch: u64,
    /// Whether another instance is to be fenced off (`restore` and `adopt` alone say so).
    pub takeover: bool,
}

/// The body of `POST /v1/sessions`, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The server this is meant for.
    pub server: ServerKey,
    /// The account's node.
    pub node: NodeId,
    /// The account's network.
    pub network: Network,
    /// The key that signs.
    pub access_key: AccessKey,
    /// The grant for that key. Without one the server uses the last it was shown for this key and account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<SignedGrant>,
    /// What the session is for.
    pub scope: Scope,
    /// Present for [`Scope::Append`], absent for [`Scope::Read`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<WriterClaim>,
    /// The client's clock; only shown, never judged.
    pub time: UnixMillis,
}

/// [`Opening`] with the signature of its access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedOpening {
    /// What is asked for.
    pub opening: Opening,
    /// BIP340 over the tagged hash of SPEC 4.3, hex.
    #[serde(with = "hex::serde")]
    pub signature: [u8; 64],
    /// The invitation with which a new node is let in, as its operator gave it; not signed, since it decides about nothing
    /// else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

impl Opening {
    /// The 32 bytes that are signed: a tagged hash over every field, each of fixed length or hashed.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let network = sha256(self.network.as_str().as_bytes());
        let grant = self.grant.as_ref().map_or([0; 32], |g| {
            sha256(format!("{}\n{}", g.text, g.signature).as_bytes())
        });
        let mut writer = Vec::new();
        if let Some(claim) = &self.writer {
            writer.extend_from_slice(&claim.instance.0);
            writer.extend_from_slice(&claim.run.0);
            writer.extend_from_slice(&claim.expected_epoch.to_be_bytes());
            writer.extend_from_slice(&claim.epoch.to_be_bytes());
            writer.push(u8::from(claim.takeover));
        }
        let parts: [&[u8]; 8] = [
            &self.server.0,
            &self.node.0,
            &network,
            &self.access_key.0,
            &grant,
            &[self.scope as u8],
            &writer,
            &self.time.0.to_be_bytes(),
        ];
        tagged(OPEN_TAG, &parts)
    }

    /// Signs the opening; `aux` is fresh randomness for the nonce.
    pub fn sign(self, secret: &IdentitySecret, aux: &[u8; 32]) -> Result<SignedOpening, BadSecret> {
        let signature = secret.sign(&self.digest(), aux)?;
        Ok(SignedOpening {
            opening: self,
            signature,
            invite: None,
        })
    }
}

impl SignedOpening {
    /// Checks the signature, and that a writer's claim is there exactly where the scope asks for one.
    pub fn verify(&self) -> Result<&Opening, BadOpening> {
        let opening = &self.opening;
        if (opening.scope == Scope::Append) != opening.writer.is_some() {
            return Err(BadOpening);
        }
        let key = XOnlyPublicKey::from_byte_array(opening.access_key.0).map_err(|_| BadOpening)?;
        schnorr::Signature::from_byte_array(self.signature)
            .verify(&opening.digest(), &key)
            .map_err(|_| BadOpening)?;
        Ok(opening)
    }
}

#[cfg(test)]
mod tests;
