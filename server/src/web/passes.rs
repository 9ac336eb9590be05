//! What a browser is given, and how it is known again: a challenge for a login (SPEC 4.7), and a pass once that was signed.
//!
//! Nothing of it is stored. A browser that begins a login gets a random secret in a cookie, and its challenge is a MAC over that
//! secret and over what is to be signed: whoever comes by the text and its signature without the cookie has nothing. A pass
//! says whose it is and until when, and its MAC says that it is ours. So any process that holds the server's identity and serves
//! the same store knows both, as with the tokens of [sessions](crate::sessions). What was used up or given back is remembered
//! by this process alone; elsewhere the cookie and the short life stand for it.

use crate::{
    recent::Recent,
    store::{AccountId, StoreId},
};
use backstop_protocol::{
    bytes::Reader,
    clock::UnixMillis,
    hash::{hkdf_sha256, hmac_sha256, same, sha256},
    id::{Challenge, Network, NodeId, ServerKey},
    login::Login,
    session::IdentitySecret,
};
use rand_core::CryptoRng;
use std::sync::atomic::{AtomicU64, Ordering};
use zeroize::Zeroizing;

const KEY_INFO: &[u8] = b"backstop-server/v1/pages";
const CHALLENGE_LABEL: &[u8] = b"challenge\0";
const PASS_LABEL: &[u8] = b"pass\0";
const PASS_VERSION: u8 = 1;
const OWNER: u8 = 1;
const OPERATOR: u8 = 2;
/// Bytes of a pass before its MAC.
const PAYLOAD_LEN: usize = 1 + 1 + 8 + 16 + 8;
/// How long a login may be signed and shown, seconds.
const LOGIN_LIFE: u64 = 600;
/// How long a pass is good, milliseconds.
pub(super) const PASS_LIFE_MS: u64 = 3_600_000;

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// Who has the key of this account's node.
    Owner(AccountId),
    /// Who has the operator's token.
    Operator,
}

/// What a browser shows with each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) holder: Holder,
    /// Tells it from all others.
    number: [u8; 16],
    /// From when on it is void.
    pub(super) expires_at: UnixMillis,
}

/// Why a login does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// It was begun at another server, or in another browser, or another one was begun since.
    Foreign,
    /// Its time is over.
    Expired,
    /// It was used before.
    Used,
}

/// A word that its operator made up, by its hash.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

/// A token that is too short, or too long.
#[derive(Debug, thiserror::Error)]
#[error("the admin token must have 16 to 256 bytes, such as openssl rand -hex 16 makes")]
pub struct BadAdminToken;

impl AdminToken {
    /// Of what a file holds; white space around it is none of it.
    pub fn new(token: &[u8]) -> Result<Self, BadAdminToken> {
        let token = token.trim_ascii();
        if (16..=256).contains(&token.len()) {
            Ok(Self(sha256(token)))
        } else {
            Err(BadAdminToken)
        }
    }

    /// Whether somebody typed it, found out in constant time.
    pub(super) fn is(&self, typed: &str) -> bool {
        same(&self.0, &sha256(typed.trim().as_bytes()))
    }
}

// It is a hash, but of what somebody could have chosen badly.
impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// Gives challenges and passes, and knows them again.
pub(crate) struct Passes {
    server: ServerKey,
    key: Zeroizing<[u8; 32]>,
    /// Random; with the count behind it, what is random in each challenge and pass.
    seed: Zeroizing<[u8; 32]>,
    count: AtomicU64,
    /// Challenges that were used and passes that were given back.
    spent: Recent<[u8; 16], 16_384>,
    admin: Option<AdminToken>,
}

impl Passes {
    /// The passes of one server over one store; `rng` makes what tells this process from the others.
    pub(crate) fn new(
        identity: &IdentitySecret,
        store: StoreId,
        admin: Option<AdminToken>,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Self {
        let (mut key, mut seed) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
        rng.fill_bytes(&mut *seed);
        hkdf_sha256(&store.0, identity.expose_bytes(), KEY_INFO, &mut *key);
        Self {
            server: identity.server_key(),
            key,
            seed,
            count: AtomicU64::new(0),
            spent: Recent::default(),
            admin,
        }
    }

    /// The server's name.
    pub(super) fn server(&self) -> ServerKey {
        self.server
    }

    /// The operator's word, if there is one.
    pub(super) fn admin(&self) -> Option<&AdminToken> {
        self.admin.as_ref()
    }

    fn random(&self) -> [u8; 32] {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        hmac_sha256(&self.seed, &[&count.to_be_bytes()])
    }

    /// Begins a login: the secret for the browser's cookie, and what is to be signed.
    pub(super) fn challenge(&self, node: NodeId, network: Network, now: UnixMillis) -> (String, Login) {
        let secret = hex::encode(self.random());
        let expires_at = now.as_secs().saturating_add(LOGIN_LIFE);
        let login = Login {
            server: self.server,
            node,
            network,
            challenge: self.challenge_of(&secret, node, network, expires_at),
            expires_at,
        };
        (secret, login)
    }

    fn challenge_of(&self, secret: &str, node: NodeId, network: Network, expires_at: u64) -> Challenge {
        // Hashed, so that the parts cannot run into each other.
        let secret = sha256(secret.as_bytes());
        let network = sha256(network.as_str().as_bytes());
        let expires_at = expires_at.to_be_bytes();
        let mac = hmac_sha256(
            &self.key,
            &[CHALLENGE_LABEL, &secret, &node.0, &network, &expires_at],
        );
        let (challenge, _) = mac.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        Challenge(*challenge)
    }

    /// Whether a login counts in the browser that shows these secrets. Who signed it is another question.
    pub(super) fn judge<'a>(
        &self,
        login: &Login,
        secrets: impl Iterator<Item = &'a str>,
        now: UnixMillis,
    ) -> Result<(), Stale> {
        let Login {
            server,
            node,
            network,
            challenge,
            expires_at,
        } = *login;
        let mut secrets = secrets.map(|secret| self.challenge_of(secret, node, network, expires_at));
        let wide = |challenge: Challenge| sha256(&challenge.0);
        if server != self.server || !secrets.any(|own| same(&wide(own), &wide(challenge))) {
            return Err(Stale::Foreign);
        }
        if now.as_secs() > expires_at {
            return Err(Stale::Expired);
        }
        if self.spent.holds(&challenge.0) {
            return Err(Stale::Used);
        }
        Ok(())
    }

    /// Uses a login up, whose signature was checked too: of many at once one succeeds.
    pub(super) fn redeem(&self, login: &Login, account: AccountId, now: UnixMillis) -> Result<String, Stale> {
        if self.spent.add(login.challenge.0) {
            Ok(self.issue(Holder::Owner(account), now))
        } else {
            Err(Stale::Used)
        }
    }

    /// A new pass.
    pub(super) fn issue(&self, holder: Holder, now: UnixMillis) -> String {
        let (kind, account) = match holder {
            Holder::Owner(account) => (OWNER, account.0),
            Holder::Operator => (OPERATOR, 0),
        };
        let random = self.random();
        let (number, _) = random.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        let mut pass = vec![PASS_VERSION, kind];
        pass.extend_from_slice(&account.to_be_bytes());
        pass.extend_from_slice(number);
        pass.extend_from_slice(&now.0.saturating_add(PASS_LIFE_MS).to_be_bytes());
        let mac = self.mac(&pass, holder);
        pass.extend_from_slice(&mac);
        hex::encode(pass)
    }

    /// An operator's pass ends with the token that it was given for.
    fn mac(&self, payload: &[u8], holder: Holder) -> [u8; 32] {
        let token = match (holder, &self.admin) {
            (Holder::Operator, Some(admin)) => admin.0,
            _ => [0; 32],
        };
        hmac_sha256(&self.key, &[PASS_LABEL, payload, &token])
    }

    /// What a pass says, if it is ours, still good and not given back.
    pub(super) fn recognise(&self, pass: &str, now: UnixMillis) -> Option<Pass> {
        let mut bytes = [0; PAYLOAD_LEN + 32];
        hex::decode_to_slice(pass, &mut bytes).ok()?;
        let (payload, mac) = bytes.split_last_chunk::<32>()?;
        let pass = parse(payload)?;
        let known = same(mac, &self.mac(payload, pass.holder));
        let holds = pass.holder != Holder::Operator || self.admin.is_some();
        (known && holds && now < pass.expires_at && !self.spent.holds(&pass.number)).then_some(pass)
    }

    /// Lets a pass be good no more.
    pub(super) fn give_back(&self, pass: &Pass) {
        self.spent.add(pass.number);
    }
}

fn parse(payload: &[u8]) -> Option<Pass> {
    let mut reader = Reader::new(payload);
    if reader.u8().ok()? != PASS_VERSION {
        return None;
    }
    let kind = reader.u8().ok()?;
    let account = AccountId(i64::from_be_bytes(reader.array().ok()?));
    let number = reader.array().ok()?;
    let expires_at = UnixMillis(reader.u64().ok()?);
    reader.end().ok()?;
    let holder = match kind {
        OWNER => Holder::Owner(account),
        OPERATOR => Holder::Operator,
        _ => return None,
    };
    Some(Pass {
        holder,
        number,
        expires_at,
    })
}

#[cfg(test)]
mod tests;
