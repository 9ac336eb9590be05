//! An operator's commands beside a server that runs, and housekeeping that is killed.

use crate::{
    process::{Process, fails},
    support::{Node, TestServer},
};
use backstop_protocol::{
    api::{self, Appended, SnapshotInfo, SnapshotList},
    chunk::{encode_ids, parse_places},
    id::ChunkId,
};
use std::{path::Path, process::Command, time::Duration};

fn rollup(data: &Path, node: &Node, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop-server"));
    command.args(["node", "rollup", &node.id().to_string(), "--data"]);
    command.arg(data).args(more);
    command
}

#[tokio::test]
async fn a_roll_up_ordered_by_hand_is_asked_for_with_the_next_record_until_a_snapshot_comes() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let node = Node::new(1);
    let mut client = node.first(&process.place).await;
    client.append(1).await;
    for network in [&[][..], &["--network", "regtest"]] {
        let said = rollup(dir.path(), &node, network).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(
            text.contains(&node.id().to_string()) && text.contains("1 records"),
            "{text}"
        );
    }
    assert!(client.state().await.roll_up);
    for fill in [2, 3] {
        let next = client.next(fill);
        let appended: Appended = client.try_append(&next).await.json();
        assert!(appended.roll_up);
        client.head = appended.head;
    }
    client.put_pack(&[10]).await;
    let commit = client.commit(1, None, &[10], &[]);
    client.try_commit(&commit).await.json::<SnapshotInfo>();
    assert!(!client.state().await.roll_up);
    client.append(4).await;
}

#[tokio::test]
async fn an_order_that_means_nothing_here_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(1);
    let said = fails(rollup(dir.path(), &node, &[]));
    assert!(
        said.contains("no database") && said.contains("--data DIR"),
        "{said}"
    );
    let process = Process::start(dir.path());
    let said = fails(rollup(dir.path(), &node, &[]));
    assert!(
        said.contains("no node") && said.contains("backstop status"),
        "{said}"
    );
    node.first(&process.place).await;
    let said = fails(rollup(dir.path(), &node, &["--network", "bitcoin"]));
    assert!(
        said.contains("not on bitcoin") && said.contains("regtest"),
        "{said}"
    );
}

const CHUNKS: u8 = 200;

fn bytes_of(chunk: u8) -> Vec<u8> {
    vec![chunk; 300]
}

/// Whether every chunk of the newest snapshot comes back as it was sent.
async fn newest_is_whole(process: &Process, node: &Node, needed: &[u8]) {
    let mut client = node.open(&process.place, node.read_opening(&process.place)).await;
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots.first().unwrap().snapshot.0, [6; 16]);
    let ids: Vec<_> = needed.iter().map(|id| ChunkId([*id; 32])).collect();
    let answer = client.call("POST", api::LOCATE, &encode_ids(&ids)).await;
    let places = parse_places(answer.octets(), ids.len()).unwrap();
    for (chunk, place) in needed.iter().zip(places) {
        let place = place.unwrap();
        let part = format!(
            "{}/{}?offset={}&length={}",
            api::PACKS,
            place.pack,
            place.offset,
            place.len
        );
        assert_eq!(client.call("GET", &part, b"").await.octets(), bytes_of(*chunk));
    }
    let state = client.state().await;
    let frames = client
        .call("GET", &format!("{}?from={}", api::RECORDS, state.first_seq), b"")
        .await;
    let count = api::parse_frames(frames.octets()).unwrap().len() as u64;
    assert_eq!(state.first_seq + count, state.head.seq + 1);
}

#[tokio::test]
async fn killed_in_the_middle_of_housekeeping_it_loses_nothing_and_ends_it_at_the_next_start() {
    let node = Node::new(1);
    // Written by a server whose clock stood years ago: for the one that comes all of it is old.
    let mut old = TestServer::start().await;
    let data = old.data.clone();
    let mut client = node.first(&old).await;
    let all: Vec<u8> = (1..=CHUNKS).collect();
    for pack in all.chunks(5) {
        client.put_pack(pack).await;
    }
    // Each snapshot needs less than the one before; the last one, two chunks of each pack.
    let needs = |chunk: u8, snapshot: u8| chunk % 5 < 2 || snapshot < 6 && chunk > 20 * snapshot;
    for snapshot in 1..=6 {
        client.append(snapshot).await;
        let chunks: Vec<u8> = all
            .iter()
            .copied()
            .filter(|chunk| needs(*chunk, snapshot))
            .collect();
        let commit = client.commit(snapshot, None, &chunks, &[]);
        client.try_commit(&commit).await.json::<SnapshotInfo>();
    }
    client.append(7).await;
    old.begin_stop();
    let dir = old.stopped().await;
    let needed: Vec<u8> = all.iter().copied().filter(|chunk| needs(*chunk, 6)).collect();
    for delay in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let mut process = Process::start(&data);
        tokio::time::sleep(Duration::from_millis(delay)).await;
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }
    let process = Process::start(&data);
    newest_is_whole(&process, &node, &needed).await;
    let mut client = node.open(&process.place, node.read_opening(&process.place)).await;
    for _ in 0..500 {
        if client.state().await.first_seq == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Three snapshots stay, and the log from the oldest of them on.
    assert_eq!(client.state().await.first_seq, 4);
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots.len(), 3);
    newest_is_whole(&process, &node, &needed).await;
    drop(dir);
}
