//! What an operator's machines see.

use crate::support::{Node, TestServer, plain_get};
use backstop_protocol::{
    api::{self, AccountState, ProofReport},
    problem::ProblemCode,
};
use std::net::{Ipv4Addr, SocketAddr};

async fn server() -> TestServer {
    TestServer::start_with(|config| {
        config.metrics = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.roll_up.records = 3;
    })
    .await
}

#[tokio::test]
async fn the_counts_follow_what_happens() {
    let server = server().await;
    let mut client = Node::new(1).first(&server).await;
    let first = client.append(1).await;
    client.append(2).await;
    assert_eq!(client.try_append(&first).await.status, 200);
    let off_chain = client.record(1, 9, client.head.hash, 3, first.len());
    client.try_append(&off_chain).await.refused(ProblemCode::NotNext);
    let due = client.next(4);
    assert_eq!(client.try_append(&due).await.status, 200);
    client.put_pack(&[1]).await;
    client.head = client.state().await.head;
    let commit = client.commit(1, None, &[1], &[]);
    assert_eq!(client.try_commit(&commit).await.status, 200);
    let report = ProofReport { seq: 3, equal: false };
    let report = serde_json::to_vec(&report).unwrap();
    let _: AccountState = client.call("POST", api::PROOFS, &report).await.json();
    server.request("BREW", "/v1/coffee", b"").await;
    let route = |status: u16| {
        format!("backstop_requests_total{{method=\"POST\",route=\"/v1/records\",status=\"{status}\"}}")
    };
    for (name, want) in [
        ("backstop_appends_total", 4),
        ("backstop_append_commit_seconds_count", 4),
        ("backstop_roll_ups_asked_total", 1),
        ("backstop_roll_ups_committed_total", 1),
        ("backstop_proofs_total{outcome=\"failed\"}", 1),
        ("backstop_proofs_total{outcome=\"equal\"}", 0),
        ("backstop_sessions_opened_total{scope=\"append\"}", 1),
        ("backstop_refusals_total{code=\"not_next\"}", 1),
        ("backstop_refusals_total{code=\"not_found\"}", 1),
        (&route(200), 4),
        (&route(409), 1),
        (
            "backstop_requests_total{method=\"other\",route=\"none\",status=\"404\"}",
            1,
        ),
        (
            concat!("backstop_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
            1,
        ),
    ] {
        assert_eq!(server.metric(name).await, want, "{name}");
    }
    let records = 5 * first.len();
    assert!(server.metric("backstop_received_bytes_total").await > u64::try_from(records).unwrap());
    assert!(server.metric("backstop_sent_bytes_total").await > 100);
}

#[tokio::test]
async fn no_count_names_a_node_or_a_key() {
    let server = server().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    let pack = client.put_pack(&[1]).await;
    client
        .call("GET", &format!("{}/{pack}?offset=0&length=1", api::PACKS), b"")
        .await;
    let grants = format!("{}/{}", api::GRANTS, node.grant().access_key);
    server.request("GET", &grants, b"").await;
    let (status, text) = plain_get(server.metrics.unwrap(), "/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("/v1/packs/{pack}"), "{text}");
    for name in [
        node.id().to_string(),
        node.grant().access_key.to_string(),
        pack.to_string(),
    ] {
        assert!(!text.contains(&name), "{text}");
    }
}

#[tokio::test]
async fn the_levels_are_those_of_the_moment_and_name_as_many_nodes_as_they_may() {
    let server = TestServer::start_with(|config| {
        config.metrics = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.metrics_nodes = 1;
    })
    .await;
    assert_eq!(server.metric("backstop_accounts ").await, 0);
    let (first, second) = (Node::new(1), Node::new(2));
    let mut client = first.first(&server).await;
    let sent = client.append(1).await.len() + client.append(2).await.len();
    let sent = u64::try_from(sent).unwrap();
    second.first(&server).await;
    let named = |what: &str| {
        format!(
            "backstop_node_{what}{{node=\"{}\",network=\"regtest\"}}",
            first.id()
        )
    };
    for (name, want) in [
        ("backstop_accounts ", 2),
        ("backstop_accounts_held ", 0),
        ("backstop_store_up ", 1),
        ("backstop_logs_bytes ", sent),
        ("backstop_append_group_size_count ", 2),
        (&named("log_bytes"), sent),
        (&named("snapshot_bytes"), 0),
        (&named("last_record_seconds"), 1_700_000_000),
    ] {
        assert_eq!(server.metric(name).await, want, "{name}");
    }
    assert!(server.metric("backstop_disk_free_bytes ").await > 0);
    assert!(server.metric("backstop_database_connections_max ").await > 1);
    let (_, text) = plain_get(server.metrics.unwrap(), "/metrics").await;
    assert!(!text.contains(&second.id().to_string()), "{text}");
}

#[tokio::test]
async fn health_and_readiness_are_told_apart_from_the_api() {
    let mut server = server().await;
    let operators = server.metrics.unwrap();
    assert_eq!(plain_get(operators, "/health").await, (200, "ok\n".to_owned()));
    assert_eq!(plain_get(operators, "/ready").await, (200, "ready\n".to_owned()));
    assert_eq!(plain_get(operators, api::INFO).await.0, 404);
    assert_eq!(server.request("GET", "/metrics", b"").await.status, 404);
    // A request that does not end keeps the server from stopping, and it says so meanwhile.
    let mut stuck = server.connect().await;
    stuck
        .send(b"POST /v1/sessions HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(stuck.answer().await.unwrap().status, 100);
    server.begin_stop();
    while plain_get(operators, "/ready").await != (503, "stopping\n".to_owned()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(plain_get(operators, "/health").await.0, 200);
    stuck.send(b"{\"a\": 1}\n").await;
    assert_eq!(stuck.answer().await.unwrap().status, 400);
    server.stopped().await;
}
