//! Sessions without a memory of them: a token says all, and its own MAC says that it is ours (SPEC 4.4). Any process that
//! holds the server's identity and serves the same store recognises it, and no request needs a database for that.

use crate::store::{AccountId, StoreId, Writer};
use backstop_protocol::{
    bytes::Reader,
    clock::UnixMillis,
    grant::Scope,
    hash::{hkdf_sha256, hmac_sha256, same},
    id::{AccessKey, InstanceId, RunId, ServerKey},
    receipt::{RECEIPT_TAG, Receipt, SignedReceipt},
    session::{BadPublic, BadSecret, IdentitySecret, SessionKey},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

const TOKEN_INFO: &[u8] = b"backstop-server/v1/token";
const TOKEN_VERSION: u8 = 1;
/// Stands where the scope does, in an append session whose writer took over.
const TAKEOVER: u8 = 3;
/// Bytes of a token before its MAC.
const PAYLOAD_LEN: usize = 1 + 8 + 32 + 1 + 16 + 16 + 8 + 8;
/// Session keys that are kept in each half of the cache.
const KEYS_MAX: usize = 4096;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The account.
    pub account: AccountId,
    /// The key that opened it, with which the session's key is shared.
    pub access_key: AccessKey,
    /// Who writes, in an append session; `None` in one that only reads.
    pub writer: Option<Writer>,
    /// Whether the writer took over, as whoever restores does.
    pub takeover: bool,
    /// From when on the token is void.
    pub expires_at: UnixMillis,
}

/// Issues and recognises tokens, and knows their keys.
pub struct Sessions {
    identity: IdentitySecret,
    token_key: Zeroizing<[u8; 32]>,
    keys: Mutex<Keys>,
}

/// The keys of the sessions last used, by their tokens' MACs. Two halves: where the younger is full it becomes the
/// elder, and what was not asked for since then is forgotten, to be derived again if need be.
#[derive(Default)]
struct Keys {
    young: HashMap<[u8; 32], Arc<SessionKey>>,
    old: HashMap<[u8; 32], Arc<SessionKey>>,
}

impl Sessions {
    /// The sessions of one server over one store: tokens name accounts by the store's own ids.
    #[must_use]
    pub fn new(identity: IdentitySecret, store: StoreId) -> Self {
        let mut token_key = Zeroizing::new([0; 32]);
        hkdf_sha256(&store.0, identity.expose_bytes(), TOKEN_INFO, &mut *token_key);
        Self {
            identity,
            token_key,
            keys: Mutex::default(),
        }
    }

    /// The server's name.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        self.identity.server_key()
    }

    /// Signs a receipt. The nonce is made of the statement and of a key of ours beside the one that signs.
    pub fn sign_receipt(&self, receipt: Receipt) -> Result<SignedReceipt, BadSecret> {
        let aux = hmac_sha256(&self.token_key, &[RECEIPT_TAG.as_bytes(), &receipt.digest()]);
        receipt.sign(&self.identity, &aux)
    }

    /// The key of the answer to an opening.
    pub fn opening_key(&self, access_key: AccessKey, body: &[u8]) -> Result<SessionKey, BadPublic> {
        Ok(self.identity.shared_with(&access_key.0)?.opening_key(body))
    }

    /// The token of a session.
    #[must_use]
    pub fn issue(&self, session: &Session) -> String {
        let mut token = Vec::with_capacity(PAYLOAD_LEN + 32);
        let (scope, writer) = match &session.writer {
            None => (Scope::Read as u8, [0; 40]),
            Some(writer) if session.takeover => (TAKEOVER, join(writer)),
            Some(writer) => (Scope::Append as u8, join(writer)),
        };
        token.push(TOKEN_VERSION);
        token.extend_from_slice(&session.account.0.to_be_bytes());
        token.extend_from_slice(&session.access_key.0);
        token.push(scope);
        token.extend_from_slice(&writer);
        token.extend_from_slice(&session.expires_at.0.to_be_bytes());
        let mac = hmac_sha256(&self.token_key, &[&token]);
        token.extend_from_slice(&mac);
        hex::encode(token)
    }

    /// What a token says, and the key of its session; `None` where this server did not issue it. Whether its life is over is
    /// for the caller to see.
    #[must_use]
    pub fn recognise(&self, token: &str) -> Option<(Session, Arc<SessionKey>)> {
        if token.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut bytes = [0; PAYLOAD_LEN + 32];
        hex::decode_to_slice(token, &mut bytes).ok()?;
        let (payload, mac) = bytes.split_last_chunk::<32>()?;
        if !same(mac, &hmac_sha256(&self.token_key, &[payload])) {
            return None;
        }
        let session = parse(payload)?;
        Some((session, self.key(token, mac, session.access_key)?))
    }

    fn key(&self, token: &str, mac: &[u8; 32], access_key: AccessKey) -> Option<Arc<SessionKey>> {
        if let Some(known) = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(mac) {
            return Some(known);
        }
        // Outside of the lock: this is the one costly step.
        let key = Arc::new(self.identity.shared_with(&access_key.0).ok()?.session_key(token));
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(*mac, key.clone());
        Some(key)
    }
}

impl Keys {
    fn get(&mut self, mac: &[u8; 32]) -> Option<Arc<SessionKey>> {
        if let Some(key) = self.young.get(mac) {
            return Some(key.clone());
        }
        let key = self.old.remove(mac)?;
        self.insert(*mac, key.clone());
        Some(key)
    }

    fn insert(&mut self, mac: [u8; 32], key: Arc<SessionKey>) {
        if self.young.len() >= KEYS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(mac, key);
    }
}

fn join(writer: &Writer) -> [u8; 40] {
    let mut joined = [0; 40];
    let parts = writer
        .instance
        .0
        .iter()
        .chain(&writer.run.0)
        .copied()
        .chain(writer.epoch.to_be_bytes());
    for (to, from) in joined.iter_mut().zip(parts) {
        *to = from;
    }
    joined
}

fn parse(payload: &[u8]) -> Option<Session> {
    let mut reader = Reader::new(payload);
    if reader.u8().ok()? != TOKEN_VERSION {
        return None;
    }
    let account = AccountId(i64::from_be_bytes(reader.array().ok()?));
    let access_key = AccessKey(reader.array().ok()?);
    let scope = reader.u8().ok()?;
    let writer = Writer {
        instance: InstanceId(reader.array().ok()?),
        run: RunId(reader.array().ok()?),
        epoch: reader.u64().ok()?,
    };
    let expires_at = UnixMillis(reader.u64().ok()?);
    reader.end().ok()?;
    Some(Session {
        account,
        access_key,
        writer: [Scope::Append as u8, TAKEOVER].contains(&scope).then_some(writer),
        takeover: scope == TAKEOVER,
        expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(byte: u8) -> IdentitySecret {
        IdentitySecret::from_bytes(&[byte; 32]).unwrap()
    }

    fn sessions(store: u8) -> Sessions {
        Sessions::new(identity(1), StoreId([store; 16]))
    }

    fn session(account: i64) -> Session {
        Session {
            account: AccountId(account),
            access_key: identity(2).access_key(),
            writer: Some(Writer {
                instance: InstanceId([3; 16]),
                run: RunId([4; 16]),
                epoch: 5,
            }),
            takeover: false,
            expires_at: UnixMillis(6),
        }
    }

    #[test]
    fn a_token_says_what_it_was_issued_for_and_its_key_is_the_clients() {
        let sessions = sessions(1);
        for session in [
            session(7),
            Session {
                writer: None,
                ..session(7)
            },
            Session {
                takeover: true,
                ..session(7)
            },
        ] {
            let token = sessions.issue(&session);
            let (read, key) = sessions.recognise(&token).unwrap();
            assert_eq!(read, session);
            let theirs = identity(2)
                .shared_with(&sessions.server_key().0)
                .unwrap()
                .session_key(&token);
            assert_eq!(
                key.request_mac("GET", "/", 1, &[0; 32]),
                theirs.request_mac("GET", "/", 1, &[0; 32])
            );
        }
    }

    #[test]
    fn a_token_of_another_server_or_another_store_is_not_recognised() {
        let token = sessions(1).issue(&session(7));
        assert!(sessions(2).recognise(&token).is_none());
        assert!(
            Sessions::new(identity(9), StoreId([1; 16]))
                .recognise(&token)
                .is_none()
        );
    }

    #[test]
    fn a_key_is_remembered_for_long_and_derived_again_after_that() {
        let sessions = sessions(1);
        let first = sessions.issue(&session(0));
        let (_, before) = sessions.recognise(&first).unwrap();
        let (_, again) = sessions.recognise(&first).unwrap();
        assert!(Arc::ptr_eq(&before, &again));
        {
            let mut keys = sessions.keys.lock().unwrap();
            for filler in 0..3 * KEYS_MAX {
                let mut mac = [0; 32];
                mac[..8].copy_from_slice(&filler.to_be_bytes());
                keys.insert(mac, before.clone());
            }
            assert!(keys.young.len() + keys.old.len() <= 2 * KEYS_MAX);
        }
        let (_, later) = sessions.recognise(&first).unwrap();
        assert!(!Arc::ptr_eq(&before, &later));
    }

    proptest! {
        #[test]
        fn a_token_changed_anywhere_is_not_recognised(at in 0_usize..244, by in 1_usize..16) {
            let sessions = sessions(1);
            let mut token = sessions.issue(&session(7)).into_bytes();
            let digit = char::from(token[at]).to_digit(16).unwrap();
            token[at] = b"0123456789abcdef"[usize::try_from(digit).unwrap() ^ by];
            prop_assert!(sessions.recognise(std::str::from_utf8(&token).unwrap()).is_none());
        }

        #[test]
        fn no_text_makes_recognition_panic(text in ".*", hex in "[0-9a-f]{244}") {
            let sessions = sessions(1);
            prop_assert!(sessions.recognise(&text).is_none());
            prop_assert!(sessions.recognise(&hex).is_none());
        }
    }
}
