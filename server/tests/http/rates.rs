//! Who asks too often waits, and nobody else does.

use crate::support::{Node, TestServer};
use backstop_protocol::{api, problem::ProblemCode};

#[tokio::test]
async fn who_asks_too_often_waits_and_the_writers_appends_never_do() {
    let server = TestServer::start_with(|config| {
        config.rates.everyone = 3;
        config.rates.account = 2;
    })
    .await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    let mut waiting = None;
    for _ in 0..40 {
        let answer = server.request("GET", api::INFO, b"").await;
        if answer.status == 429 {
            waiting = Some(answer);
            break;
        }
    }
    let waiting = waiting.unwrap();
    let seconds: u64 = waiting.headers["retry-after"].parse().unwrap();
    assert!((1..=2).contains(&seconds));
    assert_eq!(waiting.problem().code, ProblemCode::TooManyRequests);
    let mut calls = 0;
    while client.call("GET", api::HEAD, b"").await.status == 200 {
        calls += 1;
    }
    assert_eq!(calls, 20);
    for fill in 1..=60 {
        client.append(fill).await;
    }
    // The clock, not patience, gives it back.
    server.clock.advance(1000);
    assert_eq!(client.call("GET", api::HEAD, b"").await.status, 200);
    assert_eq!(server.request("GET", api::INFO, b"").await.status, 200);
}

#[tokio::test]
async fn a_client_that_opens_sessions_in_a_loop_waits_and_a_fenced_run_that_goes_on_appending_too() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut old = node.first(&server).await;
    let signed = node.signed(node.opening(&server, node.claim(1, 2)));
    let mut opened = 0;
    while node.post(&server, &signed).await.status == 200 {
        opened += 1;
    }
    // A replayed opening is the writer's own claim, changes nothing, and is counted all the same.
    assert_eq!(opened, 19);
    let next = old.next(1);
    let mut fenced = 0;
    loop {
        let answer = old.try_append(&next).await;
        if answer.status == 429 {
            break;
        }
        assert_eq!(answer.problem().code, ProblemCode::Fenced);
        fenced += 1;
    }
    assert_eq!(fenced, 50);
    // Another node's openings are its own.
    Node::new(2).first(&server).await.append(1).await;
}

/// Asks for what needs no session until all strangers together have to wait.
async fn flood(server: &TestServer) {
    while server.request("GET", api::INFO, b"").await.status == 200 {}
}

#[tokio::test]
async fn a_flood_of_strangers_keeps_no_node_out_that_the_server_knows_not_even_after_a_restart() {
    let few = |config: &mut backstop_server::Config| config.rates.everyone = 3;
    let server = TestServer::start_with(few).await;
    let (node, stranger) = (Node::new(1), Node::new(2));
    node.first(&server).await.append(1).await;
    flood(&server).await;
    let opening = stranger.opening(&server, stranger.claim(0, 1));
    let refused = stranger.try_open(&server, opening.clone()).await;
    refused.refused(ProblemCode::TooManyRequests);
    for _ in 0..50 {
        let garbage = server.request("POST", api::SESSIONS, b"{}").await;
        assert_ne!(garbage.status, 200);
        // Whose signature does not fit is no node, whatever he says.
        let mut forged = node.signed(node.opening(&server, node.claim(1, 9)));
        forged.opening.time.0 += 1;
        let body = serde_json::to_vec(&forged).unwrap();
        assert_eq!(server.request("POST", api::SESSIONS, &body).await.status, 401);
    }
    let again = node.opening(&server, node.claim(1, 2));
    node.open(&server, again).await.append(2).await;

    // A new process knows by the grants that are remembered.
    let server = server.restart_with(few).await;
    flood(&server).await;
    let again = node.opening(&server, node.claim(2, 3));
    node.open(&server, again).await.append(3).await;
    stranger
        .try_open(&server, opening)
        .await
        .refused(ProblemCode::TooManyRequests);
    // And however well it is known, a key has no more than its own share.
    let signed = node.signed(node.opening(&server, node.claim(2, 3)));
    let mut opened = 0;
    while node.post(&server, &signed).await.status == 200 {
        opened += 1;
    }
    assert_eq!(opened, 19);
}
