//! `prove` against a stand-in that speaks just enough HTTP, with and without the key that it shows.

use super::*;
use crate::{cln::NodeSecret, keys::Keys};
use backstop_protocol::{
    api::{AccountState, INFO, MAC_HEADER, SESSIONS, ServerInfo, SessionOpened},
    clock::{SystemClock, UnixMillis},
    grant::{Grant, Scope},
    hash::sha256,
    head::Head,
    id::Network,
    problem::Problem,
    session::{IdentitySecret, SignedOpening},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
};
use zeroize::Zeroizing;

/// How the stand-in answers an opening.
#[derive(Clone, Copy)]
enum Answer {
    /// An account that holds so many records.
    Account(u64),
    /// A refusal.
    Refusal(ProblemCode),
}

fn secret(byte: u8) -> IdentitySecret {
    IdentitySecret::from_bytes(&[byte; 32]).unwrap()
}

fn identity() -> Identity {
    let secret = NodeSecret::short(Zeroizing::new([1; 32]));
    let root = secret.backstop_root(Network::Regtest, 1);
    let grant = Grant {
        access_key: Keys::derive(&root).access.access_key(),
        scope: Scope::Append,
        node: secret.node_id(),
        network: Network::Regtest,
        serial: 1,
        expires_at: None,
    };
    Identity {
        node: secret.node_id(),
        network: Network::Regtest,
        grant: secret.node_key().sign_grant(&grant),
        root,
        database: None,
    }
}

/// Answers two calls: shows the key of `shown`, then opens with the key of `held`.
fn stand_in(shown: u8, held: u8, answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut reader = BufReader::new(&connection);
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line).unwrap();
            let path = line.split(' ').nth(1).unwrap().to_owned();
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let header = line.trim_end().to_lowercase();
                if header.is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (status, mac, answer) = match path.as_str() {
                INFO => (200, String::new(), info(shown)),
                SESSIONS => open(held, &body, answer),
                _ => panic!("{path}"),
            };
            write!(
                connection,
                "HTTP/1.1 {status} x\r\n{MAC_HEADER}: {mac}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
    });
    url
}

fn info(shown: u8) -> String {
    serde_json::to_string(&ServerInfo {
        server: secret(shown).server_key(),
        version: "0".to_owned(),
        protocols: vec![1],
        time: UnixMillis(0),
        record_max: 1,
    })
    .unwrap()
}

fn open(held: u8, body: &[u8], answer: Answer) -> (u16, String, String) {
    let signed: SignedOpening = serde_json::from_slice(body).unwrap();
    let opening = signed.verify().unwrap();
    let (status, text) = match answer {
        Answer::Refusal(code) => (
            code.status(),
            serde_json::to_string(&Problem::new(code, "")).unwrap(),
        ),
        Answer::Account(records) => {
            let account = AccountState {
                node: opening.node,
                network: opening.network,
                epoch: 1,
                timeline: None,
                head: Head {
                    seq: records,
                    ..Head::EMPTY
                },
                head_received_at: None,
                writer_since: None,
                writer_seen_at: None,
                first_seq: 0,
                log_bytes: 0,
                snapshot: None,
                roll_up: false,
                proof: None,
                held_since: None,
                files: None,
                quota: None,
                removal_at: None,
                restored_since: None,
                time: UnixMillis(0),
            };
            let opened = SessionOpened {
                token: "t".to_owned(),
                expires_in_ms: 600_000,
                account,
            };
            (200, serde_json::to_string(&opened).unwrap())
        }
    };
    let key = secret(held)
        .shared_with(&opening.access_key.0)
        .unwrap()
        .opening_key(body);
    let mac = key.answer_mac(&[0; 32], status, &sha256(text.as_bytes()));
    (status, hex::encode(mac), text)
}

fn proved(url: &str, pinned: Option<u8>) -> anyhow::Result<Proved> {
    let proof = Proof {
        url: url.to_owned(),
        connect: Connect::default(),
        pinned: pinned.map(|byte| secret(byte).server_key()),
        invite: None,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    prove(
        &proof,
        &identity(),
        &clock,
        &SharedRng::new(super::super::tests::Counting(0)),
    )
}

fn refusal(url: &str, pinned: Option<u8>) -> String {
    format!("{:#}", proved(url, pinned).err().unwrap())
}

#[test]
fn a_server_that_opens_the_account_or_has_none_yet_is_proved() {
    let found = proved(&stand_in(9, 9, Answer::Account(7)), Some(9)).ok().unwrap();
    assert_eq!((found.key, found.records), (secret(9).server_key(), 7));
    let found = proved(&stand_in(9, 9, Answer::Refusal(ProblemCode::NotFound)), None)
        .ok()
        .unwrap();
    assert_eq!((found.key, found.records), (secret(9).server_key(), 0));
}

#[test]
fn a_server_that_shows_a_key_without_having_it_proves_nothing() {
    for answer in [Answer::Account(0), Answer::Refusal(ProblemCode::NotFound)] {
        for pinned in [None, Some(9)] {
            let refused = refusal(&stand_in(9, 8, answer), pinned);
            assert!(refused.contains("no answer"), "{refused}");
        }
    }
}

#[test]
fn a_server_that_shows_another_key_than_the_pinned_one_is_not_sent_an_opening() {
    let refused = refusal(&stand_in(8, 8, Answer::Account(0)), Some(9));
    assert!(refused.contains("another server"), "{refused}");
}

#[test]
fn a_refusal_of_the_grant_is_told_in_the_servers_words() {
    let refused = refusal(&stand_in(9, 9, Answer::Refusal(ProblemCode::GrantRevoked)), None);
    assert!(
        refused.contains("does not take this node's grant") && refused.contains("grant_revoked"),
        "{refused}"
    );
}
