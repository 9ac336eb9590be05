//! The files beside the database over HTTP.

use crate::support::{Node, TestServer};
use backstop_protocol::{
    api::{self, FILES_MAX},
    files::FilesHeader,
    problem::ProblemCode,
    session::WriterClaim,
};

fn sealed(fill: u8, len: usize) -> Vec<u8> {
    let mut sealed = FilesHeader { nonce: [fill; 24] }.encode();
    sealed.resize(len, fill);
    sealed
}

#[tokio::test]
async fn files_come_back_newest_or_as_of_a_time() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    client
        .call("GET", api::FILES, b"")
        .await
        .refused(ProblemCode::NotFound);
    for (fill, len) in [(1, 302), (2, FILES_MAX)] {
        let body = sealed(fill, len);
        assert_eq!(client.call("PUT", api::FILES, &body).await.octets(), b"");
        assert_eq!(client.call("GET", api::FILES, b"").await.octets(), body);
        let info = client.state().await.files.unwrap();
        assert_eq!(info.bytes, len as u64);
        let then = format!("{}?at={}", api::FILES, info.received_at.0);
        assert_eq!(client.call("GET", &then, b"").await.octets(), body);
    }
    let early = format!("{}?at=1", api::FILES);
    client
        .call("GET", &early, b"")
        .await
        .refused(ProblemCode::NotFound);
    for query in [
        "?at=",
        "?at=-1",
        "?at=now",
        "?at=1&at=1",
        "?at=1&more=1",
        "?from=1",
    ] {
        let path = format!("{}{query}", api::FILES);
        client
            .call("GET", &path, b"")
            .await
            .refused(ProblemCode::Malformed);
    }
}

#[tokio::test]
async fn what_is_no_sealed_files_is_refused_and_changes_nothing() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let body = sealed(1, 400);
    client.call("PUT", api::FILES, &body).await.octets();
    let mut other_kind = body.clone();
    other_kind[5] = 17;
    for wrong in [&other_kind[..], &body[..301], b"", b"BKSP"] {
        client
            .call("PUT", api::FILES, wrong)
            .await
            .refused(ProblemCode::Malformed);
    }
    client
        .call("POST", api::FILES, &body)
        .await
        .refused(ProblemCode::MethodNotAllowed);
    assert_eq!(client.call("GET", api::FILES, b"").await.octets(), body);
}

#[tokio::test]
async fn a_reader_stores_no_files_and_neither_does_a_run_that_was_taken_over() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    let mut reader = node.open(&server, node.read_opening(&server)).await;
    let body = sealed(1, 400);
    reader
        .call("PUT", api::FILES, &body)
        .await
        .refused(ProblemCode::ScopeInsufficient);
    let claim = WriterClaim {
        takeover: true,
        ..node.claim(1, 2)
    };
    node.open(&server, node.opening(&server, claim)).await;
    client
        .call("PUT", api::FILES, &body)
        .await
        .refused(ProblemCode::Fenced);
    reader
        .call("GET", api::FILES, b"")
        .await
        .refused(ProblemCode::NotFound);
}
