//! What an operator hears by webhooks.

use crate::{
    support::{Node, TestServer},
    tenants::{DAY, ask, word},
};
use backstop_protocol::{
    api::{self, AccountState, Appended},
    hash::hmac_sha256,
    removal::{SignedRemoval, Wish},
};
use backstop_server::Webhook;
use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

/// Somebody who listens for webhooks, and is out for the first so many.
async fn listener(out: usize) -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let (ear, hears) = mpsc::channel(100);
    tokio::spawn(async move {
        let mut calls = 0;
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut whole = Vec::new();
            let (fields, body) = loop {
                let read = stream.read_buf(&mut whole).await.unwrap();
                assert_ne!(read, 0, "cut off: {}", String::from_utf8_lossy(&whole));
                let text = String::from_utf8_lossy(&whole).into_owned();
                if let Some((fields, body)) = text.split_once("\r\n\r\n") {
                    let fields = fields.to_ascii_lowercase();
                    let length = fields.split("content-length: ").nth(1).unwrap();
                    let length: usize = length.lines().next().unwrap().parse().unwrap();
                    if body.len() >= length {
                        break (fields, body.as_bytes().to_vec());
                    }
                }
            };
            calls += 1;
            let status = if calls <= out { "503 Out" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if calls > out && ear.send((fields, body)).await.is_err() {
                return;
            }
        }
    });
    (url, hears)
}

#[tokio::test]
async fn an_operator_hears_what_happens_signed_and_once_more_after_a_failure() {
    let (url, mut hears) = listener(1).await;
    let secret = b"0123456789abcdef0123456789abcdef";
    let server = TestServer::start_with(|config| {
        config.metrics = Some("127.0.0.1:0".parse().unwrap());
        config.housekeeping_pause = Duration::from_millis(5);
        config.quota.bytes = Some(1000);
        config.webhook = Some(Webhook::new(&url, secret).unwrap());
    })
    .await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    let mut next_is = async |event: &str| {
        let (head, body) = hears.recv().await.unwrap();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&value["event"], &value["node"]),
            (&event.into(), &node.id().to_string().into()),
            "{value}"
        );
        let field = |name: &str| {
            let line = head
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap().trim().to_owned()
        };
        let time = field("backstop-time");
        let parts: [&[u8]; 5] = [b"backstop/v1/webhook", b"\0", time.as_bytes(), b"\0", &body];
        assert_eq!(
            field("backstop-signature"),
            hex::encode(hmac_sha256(secret, &parts))
        );
    };
    for fill in 1..=3 {
        let next = client.next(fill);
        client.head = client.try_append(&next).await.json::<Appended>().head;
    }
    next_is("quota_overdraft").await;
    let report = br#"{"seq":1,"equal":false}"#;
    client
        .call("POST", api::PROOFS, report)
        .await
        .json::<AccountState>();
    next_is("proof_failed").await;
    let removal = SignedRemoval::sign(&word(&server, &node, Wish::Remove), &node.secret);
    ask(&mut client, &removal).await.json::<AccountState>();
    next_is("removal_asked").await;
    server.clock.advance(2 * DAY);
    next_is("node_silent").await;
    server.clock.advance(6 * DAY);
    next_is("removal_done").await;
    for event in [
        "quota_overdraft",
        "proof_failed",
        "removal_asked",
        "node_silent",
        "removal_done",
    ] {
        let name = format!("backstop_events_total{{event=\"{event}\"}}");
        assert_eq!(server.metric(&name).await, 1, "{event}");
    }
}

#[tokio::test]
async fn what_could_not_be_delivered_is_delivered_after_a_restart() {
    let secret = b"0123456789abcdef0123456789abcdef";
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/hook", silent.local_addr().unwrap());
    let server = TestServer::start_with(|config| {
        config.webhook = Some(Webhook::new(&nobody, secret).unwrap());
    })
    .await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    client.append(1).await;
    let report = br#"{"seq":1,"equal":false}"#;
    client
        .call("POST", api::PROOFS, report)
        .await
        .json::<AccountState>();
    // It is being told, and nobody answers.
    let (_open, _) = silent.accept().await.unwrap();
    let (url, mut hears) = listener(0).await;
    let server = server
        .restart_with(|config| config.webhook = Some(Webhook::new(&url, secret).unwrap()))
        .await;
    let (_, body) = hears.recv().await.unwrap();
    let value: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(value["event"], "proof_failed");
    assert_eq!(value["node"], node.id().to_string().as_str());
    drop(server);
}
