//! Grants for other devices: what they may do, how they are listed, and how they end.

use crate::support::{Client, Node, TestServer};
use backstop_protocol::{
    api::{self, AccountGrants, SnapshotInfo, TOKEN_LIFE_MS},
    chunk::{encode_ids, parse_ids},
    grant::{Grant, Scope, SignedGrant},
    id::{ChunkId, Network, SnapshotId},
    problem::ProblemCode,
    revocation::{Revocation, SignedRevocation},
    session::{IdentitySecret, Opening},
};

/// A device with an access key of its own, to which a node gave a grant to read.
struct Device(Node);

impl Device {
    fn of(node: u8) -> Self {
        let mut device = Node::new(node);
        device.access = IdentitySecret::from_bytes(&[77; 32]).unwrap();
        Self(device)
    }

    fn opening(&self, server: &TestServer, serial: u64) -> Opening {
        let grant = Grant {
            scope: Scope::Read,
            serial,
            ..self.0.grant()
        };
        Opening {
            grant: Some(SignedGrant::sign(&grant, &self.0.secret)),
            ..self.0.read_opening(server)
        }
    }

    async fn open(&self, server: &TestServer, serial: u64) -> Client {
        self.0.open(server, self.opening(server, serial)).await
    }
}

fn revocation(node: &Node, floor: u64) -> Vec<u8> {
    let revocation = Revocation {
        node: node.id(),
        network: Network::Regtest,
        floor,
    };
    serde_json::to_vec(&SignedRevocation::sign(&revocation, &node.secret)).unwrap()
}

#[tokio::test]
async fn a_read_grant_pulls_ciphertext_and_every_other_call_is_refused() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut writer = node.first(&server).await;
    let record = writer.append(1).await;
    let pack = writer.put_pack(&[10, 11]).await;
    let commit = writer.commit(1, None, &[10, 11], &[]);
    writer.try_commit(&commit).await.json::<SnapshotInfo>();
    let before = writer.state().await;

    let device = Device::of(1);
    let mut reader = device.open(&server, 2).await;
    assert_eq!(reader.log().await, std::slice::from_ref(&record));
    let chunks = format!("{}/{}/chunks", api::SNAPSHOTS, SnapshotId([1; 16]));
    let answer = reader.call("GET", &chunks, b"").await;
    let ids = [ChunkId([10; 32]), ChunkId([11; 32])];
    assert_eq!(parse_ids(answer.octets(), 9).unwrap(), ids);
    assert_eq!(
        reader
            .call("POST", api::LOCATE, &encode_ids(&ids))
            .await
            .octets()
            .len(),
        2 * 41
    );
    let path = format!("{}/{pack}", api::PACKS);
    let bytes = reader.call("GET", &path, b"").await.octets().to_vec();

    let proof = br#"{"seq":1,"equal":false}"#;
    let refused: [(&str, &str, &[u8]); 7] = [
        ("POST", api::RECORDS, &record),
        ("PUT", &path, &bytes),
        ("POST", api::SNAPSHOTS, &commit.encode()),
        ("POST", api::PROOFS, proof),
        ("POST", api::PROOFS_ACCEPTED, b""),
        ("POST", api::ROLL_UP, b""),
        ("PUT", api::FILES, &[0; 302]),
    ];
    for (method, path, body) in refused {
        let answer = reader.call(method, path, body).await;
        answer.refused(ProblemCode::ScopeInsufficient);
    }
    let append = Opening {
        grant: None,
        access_key: device.0.access.access_key(),
        ..device.0.opening(&server, node.claim(1, 2))
    };
    let answer = device.0.try_open(&server, append).await;
    answer.refused(ProblemCode::ScopeInsufficient);
    assert_eq!(writer.state().await, before);
}

#[tokio::test]
async fn a_revocation_ends_the_grants_below_it_within_a_tokens_life_and_no_other() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut writer = node.first(&server).await;
    writer.append(1).await;
    let device = Device::of(1);
    let mut reader = device.open(&server, 2).await;
    let kept = Grant {
        serial: 3,
        ..node.grant()
    };
    let mut owner = node
        .open(
            &server,
            Opening {
                grant: Some(SignedGrant::sign(&kept, &node.secret)),
                ..node.read_opening(&server)
            },
        )
        .await;
    let after: AccountGrants = owner
        .call("POST", api::REVOCATIONS, &revocation(&node, 3))
        .await
        .json();
    assert_eq!(after.floor, 3);
    let serials: Vec<_> = after
        .grants
        .iter()
        .map(|known| known.text.parse::<Grant>().unwrap().serial)
        .collect();
    assert_eq!(serials, [3, 2, 1]);
    // A lower one changes nothing.
    let again: AccountGrants = owner
        .call("POST", api::REVOCATIONS, &revocation(&node, 2))
        .await
        .json();
    assert_eq!(again.floor, 3);

    device
        .0
        .try_open(&server, device.opening(&server, 2))
        .await
        .refused(ProblemCode::GrantRevoked);
    server.clock.advance(TOKEN_LIFE_MS);
    for path in [api::HEAD, "/v1/records?from=2&wait=25000"] {
        let answer = reader.call("GET", path, b"").await;
        answer.refused(ProblemCode::SessionExpired);
    }
    // The plugin's key has a grant above the floor: its remembered grants suffice.
    node.open(&server, node.read_opening(&server)).await;
}

#[tokio::test]
async fn a_revocation_is_the_nodes_own_or_none() {
    let server = TestServer::start().await;
    let (node, other) = (Node::new(1), Node::new(2));
    node.first(&server).await;
    other.first(&server).await;
    let mut client = node.open(&server, node.read_opening(&server)).await;
    let mut foreign: SignedRevocation = serde_json::from_slice(&revocation(&node, 9)).unwrap();
    foreign.signature = serde_json::from_slice::<SignedRevocation>(&revocation(&other, 9))
        .unwrap()
        .signature;
    for body in [revocation(&other, 9), serde_json::to_vec(&foreign).unwrap()] {
        let answer = client.call("POST", api::REVOCATIONS, &body).await;
        answer.refused(ProblemCode::GrantInvalid);
    }
    let answer = client.call("POST", api::REVOCATIONS, b"{}").await;
    answer.refused(ProblemCode::Malformed);
    server
        .request("POST", api::REVOCATIONS, &revocation(&node, 9))
        .await
        .refused(ProblemCode::Unauthenticated);
    let listed: AccountGrants = client.call("GET", api::GRANTS, b"").await.json();
    assert_eq!((listed.floor, listed.grants.len()), (0, 1));
}
