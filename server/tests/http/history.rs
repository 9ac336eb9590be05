//! Roll-ups, proofs, and what of a history goes, over HTTP.

use crate::support::{Client, Node, TestServer};
use backstop_protocol::{
    api::{self, AccountState, Appended, Proof, ProofReport, SnapshotInfo, SnapshotList},
    chunk::{encode_ids, parse_places},
    id::ChunkId,
    problem::ProblemCode,
    record::RECORD_MIN,
};
use backstop_server::{Config, store::RollUpPolicy};
use std::time::Duration;

const DAY: u64 = 24 * 60 * 60 * 1000;

fn busy(config: &mut Config) {
    config.housekeeping_pause = Duration::from_millis(10);
}

async fn proof(client: &mut Client, seq: u64, equal: bool) -> AccountState {
    let report = serde_json::to_vec(&ProofReport { seq, equal }).unwrap();
    client.call("POST", api::PROOFS, &report).await.json()
}

/// The session again, after its token's life.
async fn again(server: &TestServer, node: &Node, old: &Client) -> Client {
    let opening = node.opening(server, node.claim(old.epoch - 1, old.epoch));
    node.open(server, opening).await
}

async fn located(client: &mut Client, chunks: &[u8]) -> Vec<bool> {
    let ids: Vec<_> = chunks.iter().map(|id| ChunkId([*id; 32])).collect();
    let answer = client.call("POST", api::LOCATE, &encode_ids(&ids)).await;
    let places = parse_places(answer.octets(), ids.len()).unwrap();
    places.iter().map(Option::is_some).collect()
}

/// Waits for what housekeeping does beside the requests.
async fn until(client: &mut Client, there: impl Fn(&AccountState) -> bool) -> AccountState {
    for _ in 0..500 {
        let state = client.state().await;
        if there(&state) {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come");
}

#[tokio::test]
async fn an_append_that_makes_the_log_long_is_answered_with_the_wish_for_a_snapshot() {
    let server = TestServer::start_with(|config| {
        config.roll_up = RollUpPolicy {
            min_bytes: 3 * RECORD_MIN as u64,
            ..RollUpPolicy::default()
        };
    })
    .await;
    let mut client = Node::new(1).first(&server).await;
    client.append(1).await;
    client.append(2).await;
    assert!(!client.state().await.roll_up);
    for fill in [3, 4] {
        let next = client.next(fill);
        let appended: Appended = client.try_append(&next).await.json();
        assert!(appended.roll_up);
        client.head = appended.head;
    }
    assert!(client.state().await.roll_up);
    client.put_pack(&[10]).await;
    let commit = client.commit(1, None, &[10], &[]);
    client.try_commit(&commit).await.json::<SnapshotInfo>();
    assert!(!client.state().await.roll_up);
    client.append(5).await;
}

#[tokio::test]
async fn a_proof_is_remembered_and_a_failed_one_holds_until_it_is_accepted() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    client.append(1).await;
    let at = client.state().await.time;
    let state = proof(&mut client, 1, true).await;
    let (seq, equal) = (1, true);
    assert_eq!(
        (state.proof, state.held_since),
        (Some(Proof { at, seq, equal }), None)
    );
    assert_eq!(proof(&mut client, 1, false).await.held_since, Some(at));
    server.clock.advance(1000);
    assert_eq!(proof(&mut client, 0, false).await.held_since, Some(at));
    assert_eq!(client.state().await.held_since, Some(at));
    for _ in 0..2 {
        let state: AccountState = client.call("POST", api::PROOFS_ACCEPTED, b"").await.json();
        assert_eq!(state.held_since, None);
        assert!(state.proof.is_some_and(|proof| !proof.equal));
    }
}

#[tokio::test]
async fn a_proof_that_no_client_can_make_and_one_of_no_writer_are_refused() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    client.append(1).await;
    for wrong in [
        r#"{"seq":2,"equal":true}"#,
        r#"{"seq":1}"#,
        r#"{"seq":-1,"equal":true}"#,
        r#"{"seq":1,"equal":true,"more":1}"#,
        "",
    ] {
        let answer = client.call("POST", api::PROOFS, wrong.as_bytes()).await;
        answer.refused(ProblemCode::Malformed);
    }
    let report = br#"{"seq":1,"equal":false}"#;
    let mut reader = node.open(&server, node.read_opening(&server)).await;
    for (path, body) in [(api::PROOFS, &report[..]), (api::PROOFS_ACCEPTED, b"")] {
        let answer = reader.call("POST", path, body).await;
        answer.refused(ProblemCode::ScopeInsufficient);
    }
    node.open(&server, node.opening(&server, node.claim(1, 2))).await;
    for (path, body) in [(api::PROOFS, &report[..]), (api::PROOFS_ACCEPTED, b"")] {
        client.call("POST", path, body).await.refused(ProblemCode::Fenced);
    }
    assert_eq!(client.state().await.proof, None);
}

#[tokio::test]
async fn what_was_superseded_goes_by_the_servers_clock_and_the_newest_stays() {
    let server = TestServer::start_with(|config| {
        busy(config);
        config.history.snapshots = 1;
        config.history.days = 2;
    })
    .await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    for snapshot in 1..=3 {
        client.append(snapshot).await;
        client.put_pack(&[10 * snapshot, 10 * snapshot + 1]).await;
        let commit = client.commit(snapshot, None, &[10 * snapshot], &[]);
        client.try_commit(&commit).await.json::<SnapshotInfo>();
    }
    client.append(4).await;
    server.clock.advance(2 * DAY);
    let mut client = again(&server, &node, &client).await;
    // Whatever is looked at meanwhile, it is too early.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots.len(), 3);
    assert_eq!(client.state().await.first_seq, 1);
    server.clock.advance(1);
    let state = until(&mut client, |state| state.first_seq == 3).await;
    assert_eq!(state.log_bytes, 2 * RECORD_MIN as u64);
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots.len(), 1);
    assert_eq!(list.snapshots.first().copied(), state.snapshot);
    // What was gathered into another pack meanwhile stays a day longer.
    server.clock.advance(DAY + 1);
    let mut client = again(&server, &node, &client).await;
    for _ in 0..500 {
        if located(&mut client, &[10, 11, 20, 21, 31]).await == [false; 5] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(located(&mut client, &[10, 11, 20, 21, 31]).await, [false; 5]);
    assert_eq!(located(&mut client, &[30]).await, [true]);
    let tail = client.call("GET", "/v1/records?from=3", b"").await;
    assert_eq!(api::parse_frames(tail.octets()).unwrap().len(), 2);
    client.append(5).await;
}

#[tokio::test]
async fn a_failed_proof_keeps_every_snapshot_and_acceptance_lets_them_go() {
    let server = TestServer::start_with(busy).await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    for snapshot in 1..=5 {
        client.append(snapshot).await;
        client.put_pack(&[snapshot]).await;
        let commit = client.commit(snapshot, None, &[snapshot], &[]);
        client.try_commit(&commit).await.json::<SnapshotInfo>();
    }
    client.append(6).await;
    proof(&mut client, 6, false).await;
    server.clock.advance(99 * DAY);
    let mut client = again(&server, &node, &client).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.state().await.first_seq, 1);
    client
        .call("POST", api::PROOFS_ACCEPTED, b"")
        .await
        .json::<AccountState>();
    until(&mut client, |state| state.first_seq == 3).await;
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots.len(), 3);
}
