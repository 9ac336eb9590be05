//! Logins: "show me, in this browser, the backup of my node", signed by the node's key (SPEC 4.7).
//!
//! ```text
//! Backstop login 1: to the page of server <64 hex> as node <66 hex> on <network>, challenge <32 hex>, expires <unix seconds>
//! ```

use crate::{
    grant::GRANT_MAX,
    id::{Challenge, Network, NodeId, ServerKey},
    signmessage,
};
use std::{fmt, str::FromStr};

/// How every login starts. No other text that Backstop asks a node to sign starts like this.
pub const LOGIN_PREFIX: &str = "Backstop login 1: to the page of server ";

/// What a login says. It lets somebody look; no call of the API takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// To whose page; another server refuses it.
    pub server: ServerKey,
    /// Whose backup is to be shown.
    pub node: NodeId,
    /// On which network.
    pub network: Network,
    /// What the server gave to the one browser that it will show it to.
    pub challenge: Challenge,
    /// Seconds since 1970 after which it is void, by the server's clock.
    pub expires_at: u64,
}

/// A login that is not worth its signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLogin {
    /// Not the text of a login.
    #[error("the text is not a login")]
    Text,
    /// Not a signature at all.
    #[error(transparent)]
    Signature(#[from] signmessage::BadSignature),
    /// Signed by another node than the one it speaks for.
    #[error("the login speaks for node {node} but {signer} signed it")]
    Foreign {
        /// The node in the text.
        node: NodeId,
        /// The node whose key made the signature.
        signer: NodeId,
    },
}

impl BadLogin {
    /// The stable name by which test vectors call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Signature(_) => "signature",
            Self::Foreign { .. } => "foreign",
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            node,
            network,
            challenge,
            expires_at,
        } = self;
        write!(
            f,
            "{LOGIN_PREFIX}{server} as node {node} on {network}, challenge {challenge}, expires {expires_at}"
        )
    }
}

impl FromStr for Login {
    type Err = BadLogin;

    fn from_str(text: &str) -> Result<Self, BadLogin> {
        if text.len() > GRANT_MAX {
            return Err(BadLogin::Text);
        }
        let read = || -> Option<Self> {
            let rest = text.strip_prefix(LOGIN_PREFIX)?;
            let (server, rest) = rest.split_once(" as node ")?;
            let (node, rest) = rest.split_once(" on ")?;
            let (network, rest) = rest.split_once(", challenge ")?;
            let (challenge, expires_at) = rest.split_once(", expires ")?;
            Some(Self {
                server: server.parse().ok()?,
                node: node.parse().ok()?,
                network: network.parse().ok()?,
                challenge: challenge.parse().ok()?,
                expires_at: expires_at.parse().ok()?,
            })
        };
        // One spelling: "+7" and "007" are numbers too.
        read()
            .filter(|login| login.to_string() == text)
            .ok_or(BadLogin::Text)
    }
}

/// A login as it is shown to a server: its text, and what `signmessage` printed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedLogin {
    /// The text that was signed.
    pub text: String,
    /// `zbase` of `signmessage`.
    pub signature: String,
}

impl SignedLogin {
    /// Signs a login with the node's own key.
    #[must_use]
    pub fn sign(login: &Login, node_key: &secp256k1::SecretKey) -> Self {
        let text = login.to_string();
        let signature = signmessage::sign(&text, node_key);
        Self { text, signature }
    }

    /// Reads the text and checks that the node it speaks for signed it. Whether it is meant for this server and this browser, and
    /// still counts, is for the server to judge.
    pub fn verify(&self) -> Result<Login, BadLogin> {
        let login: Login = self.text.parse()?;
        let signer = signmessage::recover(&self.text, &self.signature)?;
        if signer == login.node {
            Ok(login)
        } else {
            Err(BadLogin::Foreign {
                node: login.node,
                signer,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        grant::{GRANT_PREFIX, Grant, SignedGrant},
        removal::{REMOVAL_PREFIX, RemovalWord},
        revocation::{REVOCATION_PREFIX, Revocation},
    };
    use proptest::prelude::*;

    fn key(byte: u8) -> secp256k1::SecretKey {
        secp256k1::SecretKey::from_secret_bytes([byte; 32]).unwrap()
    }

    fn login() -> Login {
        Login {
            server: ServerKey([7; 32]),
            node: NodeId(key(1).public_key().serialize()),
            network: Network::Regtest,
            challenge: Challenge([9; 16]),
            expires_at: 1_700_000_600,
        }
    }

    #[test]
    fn a_login_signed_by_its_node_is_good_and_by_another_is_foreign() {
        assert_eq!(SignedLogin::sign(&login(), &key(1)).verify(), Ok(login()));
        assert!(matches!(
            SignedLogin::sign(&login(), &key(2)).verify(),
            Err(BadLogin::Foreign { .. })
        ));
    }

    #[test]
    fn a_login_survives_lightning_cli_and_a_shells_quotes() {
        let text = Login {
            expires_at: u64::MAX,
            network: Network::Testnet4,
            ..login()
        }
        .to_string();
        assert!(
            text.bytes()
                .all(|b| (0x20..0x7f).contains(&b) && !br#""'\"#.contains(&b))
        );
        assert!(text.len() <= GRANT_MAX);
    }

    #[test]
    fn a_login_is_no_grant_revocation_or_removal_and_none_of_them_is_a_login() {
        let text = login().to_string();
        assert!(text.parse::<Grant>().is_err());
        assert!(text.parse::<Revocation>().is_err());
        assert!(text.parse::<RemovalWord>().is_err());
        let signed = SignedGrant {
            signature: signmessage::sign(&text, &key(1)),
            text,
        };
        assert!(signed.verify().is_err());
        for other in [GRANT_PREFIX, REVOCATION_PREFIX, REMOVAL_PREFIX] {
            assert!(!other.starts_with("Backstop login") && !LOGIN_PREFIX.starts_with(other));
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let text = login().to_string();
        for other in [
            text.replace("expires 1", "expires +1"),
            text.replace("expires 1", "expires 01"),
            text.replace("expires 1700000600", "expires never"),
            text.replace(" as node", "  as node"),
            text.replace("login 1", "login 2"),
            text.replace("Backstop", "backstop"),
            text.replace("regtest", "mainnet"),
            format!("{text} "),
            format!(" {text}"),
            text.to_uppercase(),
        ] {
            assert_eq!(other.parse::<Login>(), Err(BadLogin::Text), "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_login_is_read_as_it_was_written(
            server in any::<[u8; 32]>(), challenge in any::<[u8; 16]>(), network in 0_usize..5, expires_at in any::<u64>(),
        ) {
            let login = Login {
                server: ServerKey(server),
                challenge: Challenge(challenge),
                network: Network::ALL[network],
                expires_at,
                ..login()
            };
            prop_assert_eq!(login.to_string().parse(), Ok(login));
        }

        #[test]
        fn no_text_makes_the_parser_panic(tail in ".{0,300}") {
            let _ = format!("{LOGIN_PREFIX}{tail}").parse::<Login>();
            let _ = tail.parse::<Login>();
        }
    }
}
