//! A node that opens sessions.

use super::*;

/// A node with its keys. What differs between nodes follows from one byte.
pub(crate) struct Node {
    byte: u8,
    pub(crate) secret: secp256k1::SecretKey,
    pub(crate) access: IdentitySecret,
}

impl Node {
    pub(crate) fn new(byte: u8) -> Self {
        Self {
            byte,
            secret: secp256k1::SecretKey::from_secret_bytes([byte; 32]).unwrap(),
            access: IdentitySecret::from_bytes(&[byte + 100; 32]).unwrap(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId(self.secret.public_key().serialize())
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant {
            access_key: self.access.access_key(),
            scope: Scope::Append,
            node: self.id(),
            network: Network::Regtest,
            serial: 1,
            expires_at: None,
        }
    }

    pub(crate) fn claim(&self, expected_epoch: u64, epoch: u64) -> WriterClaim {
        WriterClaim {
            instance: InstanceId([self.byte; 16]),
            run: RunId([u8::try_from(epoch).unwrap(); 16]),
            expected_epoch,
            epoch,
            takeover: false,
        }
    }

    /// An append opening that shows the node's own grant.
    pub(crate) fn opening(&self, server: &Place, claim: WriterClaim) -> Opening {
        Opening {
            server: server.key,
            node: self.id(),
            network: Network::Regtest,
            access_key: self.access.access_key(),
            grant: Some(SignedGrant::sign(&self.grant(), &self.secret)),
            scope: Scope::Append,
            writer: Some(claim),
            // Shown to people, never judged.
            time: UnixMillis(0),
        }
    }

    /// A read opening that shows no grant.
    pub(crate) fn read_opening(&self, server: &Place) -> Opening {
        Opening {
            grant: None,
            scope: Scope::Read,
            writer: None,
            ..self.opening(server, self.claim(0, 1))
        }
    }

    pub(crate) fn signed(&self, opening: Opening) -> SignedOpening {
        opening.sign(&self.access, &[7; 32]).unwrap()
    }

    /// Posts an opening, and checks the MAC that every answer to a signed one carries.
    pub(crate) async fn post(&self, server: &Place, signed: &SignedOpening) -> Answer {
        let body = serde_json::to_vec(signed).unwrap();
        let answer = server.request("POST", api::SESSIONS, &body).await;
        let key = self.access.shared_with(&server.key.0).unwrap().opening_key(&body);
        let mac = key.answer_mac(&[0; 32], answer.status, &sha256(&answer.body));
        assert!(same(&mac, &answer.mac().expect("a MAC")));
        answer
    }

    pub(crate) async fn try_open(&self, server: &Place, opening: Opening) -> Answer {
        self.post(server, &self.signed(opening)).await
    }

    pub(crate) async fn open(&self, server: &Place, opening: Opening) -> Client {
        let opened: SessionOpened = self.try_open(server, opening).await.json();
        assert_eq!(opened.expires_in_ms, api::TOKEN_LIFE_MS);
        self.client(server, &opened, server.connect().await)
    }

    /// What an opened session is used by.
    pub(crate) fn client(&self, server: &Place, opened: &SessionOpened, connection: Connection) -> Client {
        Client {
            key: self
                .access
                .shared_with(&server.key.0)
                .unwrap()
                .session_key(&opened.token),
            token: opened.token.clone(),
            counter: 0,
            connection,
            timeline: TimelineId([self.byte; 16]),
            epoch: opened.account.epoch,
            head: opened.account.head,
        }
    }

    /// The first session of a new account, at epoch 1.
    pub(crate) async fn first(&self, server: &Place) -> Client {
        self.open(server, self.opening(server, self.claim(0, 1))).await
    }
}
