//! Calls that wait for the next record, at one server and at several over one database.

use crate::{
    process::Process,
    support::{Client, Cluster, Node, TestServer},
};
use backstop_protocol::{api, problem::ProblemCode};
use std::time::Duration;

/// The records from `from` on, waited for as long as a server lets wait.
async fn wait_for(client: &mut Client, from: u64) -> Vec<Vec<u8>> {
    let path = format!("{}?from={from}&wait={}", api::RECORDS, api::WAIT_MAX_MS);
    let answer = client.call("GET", &path, b"").await;
    let frames = api::parse_frames(answer.octets()).unwrap();
    frames.into_iter().map(|(_, sealed)| sealed.to_vec()).collect()
}

#[tokio::test]
async fn who_waits_for_a_record_gets_it_when_it_comes_and_what_is_there_at_once() {
    let server = TestServer::start().await;
    let (node, other) = (Node::new(1), Node::new(2));
    let mut writer = node.first(&server).await;
    let mut stranger = other.first(&server).await;
    let first = writer.append(1).await;
    let mut reader = node.open(&server, node.read_opening(&server)).await;
    assert_eq!(wait_for(&mut reader, 1).await, [first]);
    for fill in 2..5 {
        let (got, sent) = tokio::join!(wait_for(&mut reader, u64::from(fill)), async {
            stranger.append(fill).await;
            writer.append(fill).await
        });
        assert_eq!(got, [sent]);
    }
}

#[tokio::test]
async fn a_wait_ends_with_nothing_when_its_time_is_over() {
    let server = TestServer::start().await;
    let mut reader = Node::new(1).first(&server).await;
    let answer = reader.call("GET", "/v1/records?from=1&wait=50", b"").await;
    assert_eq!(answer.octets(), b"");
}

#[tokio::test]
async fn a_server_that_stops_lets_nobody_wait() {
    // It would wait for requests under way for longer than any test.
    let mut server = TestServer::start_with(|config| config.drain = Duration::from_hours(1)).await;
    let mut reader = Node::new(1).first(&server).await;
    let path = format!("{}?from=1&wait={}", api::RECORDS, api::WAIT_MAX_MS);
    let (authorization, _) = reader.authorize("GET", &path, b"");
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nauthorization: {authorization}\r\n\r\n");
    reader.connection.send(request.as_bytes()).await;
    server.begin_stop();
    // It may have stopped before it read the request.
    let answer = reader.connection.answer().await;
    assert!(answer.is_none_or(|answer| answer.octets().is_empty()));
    server.stopped().await;
}

#[tokio::test]
async fn a_wait_that_is_no_number_is_malformed() {
    let server = TestServer::start().await;
    let mut reader = Node::new(1).first(&server).await;
    for query in ["from=1&wait=", "from=1&wait=-1", "from=1&wait=1s", "wait=1"] {
        let path = format!("{}?{query}", api::RECORDS);
        let answer = reader.call("GET", &path, b"").await;
        answer.refused(ProblemCode::Malformed);
    }
}

#[tokio::test]
async fn a_record_that_another_process_over_the_database_took_is_noticed() {
    let cluster = Cluster::shared();
    let (dir, url) = (tempfile::tempdir().unwrap(), cluster.url(&cluster.database()));
    let [one, two] = [(); 2].map(|()| Process::start_over(dir.path(), &url));
    let node = Node::new(1);
    let mut writer = node.first(&one.place).await;
    let first = writer.append(1).await;
    let mut reader = node.open(&two.place, node.read_opening(&two.place)).await;
    assert_eq!(wait_for(&mut reader, 1).await, [first]);
    for fill in 2..4 {
        let (got, sent) = tokio::join!(wait_for(&mut reader, u64::from(fill)), writer.append(fill));
        assert_eq!(got, [sent]);
    }
}
