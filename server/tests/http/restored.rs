//! A server whose own data were restored from a copy: every node is held until its owner takes over (I7).

use crate::{
    process::{Process, fails, program},
    support::{Client, Cluster, Node, Place},
};
use backstop_protocol::{
    api::{self, AccountState},
    problem::ProblemCode,
    session::WriterClaim,
};
use std::{path::Path, process::Command};

fn restored(data: &Path, database: Option<&str>) -> Command {
    let mut command = program();
    command.args(["restored", "--data"]).arg(data);
    if let Some(url) = database {
        command.args(["--database", url]);
    }
    command
}

fn start(data: &Path, database: Option<&str>) -> Process {
    match database {
        Some(url) => Process::start_over(data, url),
        None => Process::start(data),
    }
}

async fn is_refused(node: &Node, place: &Place, claim: WriterClaim) {
    let refused = node.try_open(place, node.opening(place, claim)).await;
    let problem = refused.refused(ProblemCode::ServerRestored);
    assert!(problem.detail.contains("backstop adopt"), "{problem}");
    assert!(problem.since.is_some() && problem.epoch.is_some());
}

async fn read(node: &Node, place: &Place) -> (Client, AccountState) {
    let mut reader = node.open(place, node.read_opening(place)).await;
    let state = reader.state().await;
    (reader, state)
}

async fn every_node_is_held_until_its_owner_takes_over(data: &Path, database: Option<&str>) {
    let mut process = start(data, database);
    let (node, other) = (Node::new(1), Node::new(2));
    let mut running = node.first(&process.place).await;
    let first = running.append(1).await;
    let mut stranger = other.first(&process.place).await;
    stranger.append(1).await;
    let fresh = Node::new(3);
    fresh.first(&process.place).await;
    let replayed = node.opening(
        &process.place,
        WriterClaim {
            takeover: true,
            ..node.claim(1, 2)
        },
    );

    // The server runs on meanwhile: its nodes are refused with their next batch.
    let said = restored(data, database).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.starts_with("2 node(s) are held"), "{said}");
    for client in [&mut running, &mut stranger] {
        let next = client.next(2);
        client
            .try_append(&next)
            .await
            .refused(ProblemCode::ServerRestored);
    }
    is_refused(&node, &process.place, node.claim(0, 1)).await;
    is_refused(&node, &process.place, node.claim(1, 2)).await;
    is_refused(&other, &process.place, other.claim(1, 2)).await;
    // Where nothing was ever received, nothing can be lost.
    fresh
        .open(&process.place, fresh.opening(&process.place, fresh.claim(1, 2)))
        .await;

    // A new start of the server changes nothing, and reading goes on.
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    let process = start(data, database);
    is_refused(&node, &process.place, node.claim(1, 2)).await;
    let (mut reader, held) = read(&node, &process.place).await;
    assert!(held.restored_since.is_some());
    assert_eq!(reader.log().await, [first]);

    // An opening of the time that was lost fits no more, even one that took over.
    let answer = node.try_open(&process.place, replayed).await;
    answer.refused(ProblemCode::EpochMismatch);
    assert!(read(&node, &process.place).await.1.restored_since.is_some());
    let takeover = WriterClaim {
        expected_epoch: held.epoch,
        epoch: held.epoch + 1,
        takeover: true,
        ..node.claim(0, 9)
    };
    let mut adopted = node
        .open(&process.place, node.opening(&process.place, takeover))
        .await;
    adopted.append(2).await;
    assert_eq!(adopted.state().await.restored_since, None);
    is_refused(&other, &process.place, other.claim(1, 2)).await;
}

#[tokio::test]
async fn every_node_of_a_restored_sqlite_server_is_held() {
    let dir = tempfile::tempdir().unwrap();
    every_node_is_held_until_its_owner_takes_over(dir.path(), None).await;
}

#[tokio::test]
async fn every_node_of_a_restored_postgresql_server_is_held() {
    let cluster = Cluster::shared();
    let (dir, url) = (tempfile::tempdir().unwrap(), cluster.url(&cluster.database()));
    every_node_is_held_until_its_owner_takes_over(dir.path(), Some(&url)).await;
}

#[test]
fn without_a_database_nothing_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let said = fails(restored(dir.path(), None));
    assert!(
        said.contains("nothing was marked") && said.contains("--data DIR"),
        "{said}"
    );
}

#[tokio::test]
async fn a_node_that_comes_later_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    assert!(restored(dir.path(), None).status().unwrap().success());
    let mut client = Node::new(1).first(&process.place).await;
    client.append(1).await;
    let state: AccountState = client.call("GET", api::HEAD, b"").await.json();
    assert_eq!(state.restored_since, None);
}
