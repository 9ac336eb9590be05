//! What surrounds every call: paths, methods, limits, MACs, time.

use crate::support::{Connection, Node, TestServer};
use backstop_protocol::{
    api::{self, Health, JSON_MAX, RECORD_MAX, ServerInfo, TOKEN_LIFE_MS},
    head::Head,
    problem::ProblemCode,
};
use std::time::Duration;

#[tokio::test]
async fn health_and_info_need_no_session() {
    let server = TestServer::start().await;
    let health: Health = server.request("GET", api::HEALTH, b"").await.json();
    assert_eq!(health.status, "ok");
    let info: ServerInfo = server.request("GET", api::INFO, b"").await.json();
    assert_eq!((info.server, info.protocols), (server.key, vec![1]));
    assert_eq!(info.record_max, RECORD_MAX as u64);
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_problem_with_and_without_a_session() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    for path in [
        "/elsewhere",
        "/v1",
        "/v1/records/7",
        "/v2/head",
        "/v1/packs/",
        "/favicon.ico",
        "/v1/%00",
        "//",
    ] {
        server
            .request("GET", path, b"")
            .await
            .refused(ProblemCode::NotFound);
        client.call("GET", path, b"").await.refused(ProblemCode::NotFound);
    }
    for (method, path) in [
        ("DELETE", api::RECORDS),
        ("POST", api::HEAD),
        ("GET", api::SESSIONS),
        ("BREW", api::HEALTH),
    ] {
        server
            .request(method, path, b"")
            .await
            .refused(ProblemCode::MethodNotAllowed);
    }
    client
        .call("DELETE", api::RECORDS, b"")
        .await
        .refused(ProblemCode::MethodNotAllowed);
}

#[tokio::test]
async fn a_call_that_needs_a_session_is_refused_without_one() {
    let server = TestServer::start().await;
    let pack = format!("/v1/packs/{}", "00".repeat(32));
    let manifest = format!("/v1/snapshots/{}/manifest", "00".repeat(16));
    let calls = [
        ("GET", api::HEAD),
        ("POST", api::RECORDS),
        ("GET", "/v1/records?from=1"),
        ("POST", api::LOCATE),
        ("PUT", &pack),
        ("GET", &pack),
        ("POST", api::SNAPSHOTS),
        ("GET", api::SNAPSHOTS),
        ("GET", &manifest),
    ];
    for (method, path) in calls {
        let answer = server.request(method, path, b"").await;
        answer.refused(ProblemCode::Unauthenticated);
        assert_eq!(answer.headers["www-authenticate"], api::AUTH_SCHEME);
        assert_eq!(answer.mac(), None);
    }
}

#[tokio::test]
async fn credentials_that_this_server_did_not_issue_are_refused_without_a_mac() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let mac = "00".repeat(32);
    let good = client.authorize("GET", api::HEAD, b"").0;
    let other_server = TestServer::start().await;
    let elsewhere = Node::new(1).first(&other_server).await.token;
    let wrong = [
        String::new(),
        "Basic dXNlcjpwYXNz".to_owned(),
        format!("Backstop {}", client.token),
        format!("Backstop {} x {mac}", client.token),
        format!("Backstop {} 1 {mac} more", client.token),
        format!("Backstop {}00 1 {mac}", client.token),
        format!("Backstop {} 1 {mac}", client.token.to_uppercase()),
        format!("Backstop {elsewhere} 1 {mac}"),
        format!("Backstop {} 1 {mac}", "0".repeat(client.token.len())),
        good.replacen("Backstop", "backstop", 1),
    ];
    for header in wrong {
        let answer = server
            .connect()
            .await
            .request("GET", api::HEAD, &[("authorization", &header)], b"")
            .await;
        answer.refused(ProblemCode::Unauthenticated);
        assert_eq!(answer.mac(), None, "{header}");
    }
    let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
    let answer = server
        .connect()
        .await
        .request("GET", api::HEAD, &twice, b"")
        .await;
    answer.refused(ProblemCode::Unauthenticated);
}

#[tokio::test]
async fn a_mac_fits_one_method_path_query_counter_and_body_alone() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let record = client.next(1);
    let (header, _) = client.authorize("POST", api::RECORDS, &record);
    let mut other_body = record.clone();
    *other_body.last_mut().unwrap() ^= 1;
    let counter = format!(" {} ", client.counter);
    let other_counter = header.replacen(&counter, " 77 ", 1);
    let attempts = [
        ("POST", api::RECORDS, &header, &other_body),
        (
            "POST",
            api::RECORDS,
            &header,
            &record[..record.len() - 1].to_vec(),
        ),
        ("POST", api::RECORDS, &other_counter, &record),
        ("POST", "/v1/records?x=1", &header, &record),
        ("POST", api::SNAPSHOTS, &header, &record),
        ("PUT", api::RECORDS, &header, &record),
    ];
    for (method, path, header, body) in attempts {
        let answer = server
            .connect()
            .await
            .request(method, path, &[("authorization", header)], body)
            .await;
        answer.refused(ProblemCode::BadMac);
        assert!(answer.mac().is_some());
    }
    assert_eq!(client.state().await.head, Head::EMPTY);
}

#[tokio::test]
async fn a_replayed_append_is_there_once() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let record = client.next(1);
    let (header, mac) = client.authorize("POST", api::RECORDS, &record);
    for _ in 0..3 {
        let headers = [("authorization", header.as_str())];
        let answer = server
            .connect()
            .await
            .request("POST", api::RECORDS, &headers, &record)
            .await;
        client.check(&answer, &mac);
        assert_eq!(answer.status, 200);
    }
    assert_eq!(client.log().await, [record]);
}

#[tokio::test]
async fn a_token_is_void_when_its_life_is_over_and_the_run_gets_its_session_again() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    server.clock.advance(TOKEN_LIFE_MS - 1);
    client.append(1).await;
    server.clock.advance(1);
    let late = client.next(2);
    client
        .try_append(&late)
        .await
        .refused(ProblemCode::SessionExpired);
    // The connection is still good: the body was taken off it.
    client
        .try_append(&late)
        .await
        .refused(ProblemCode::SessionExpired);
    let mut again = node.first(&server).await;
    assert_eq!(again.head.seq, 1);
    again.append(2).await;
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_refused_announced_or_not() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let open = |len: usize| {
        format!(
            "POST {} HTTP/1.1\r\nhost: t\r\ncontent-length: {len}\r\n\r\n",
            api::SESSIONS
        )
    };
    let mut announced = server.connect().await;
    announced.send(open(JSON_MAX + 1).as_bytes()).await;
    announced.answer().await.unwrap().refused(ProblemCode::TooLarge);
    let chunked = |header: &str, path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: t\r\n{header}transfer-encoding: chunked\r\n\r\n")
    };
    let mut growing = server.connect().await;
    growing.send(chunked("", api::SESSIONS).as_bytes()).await;
    let part = [
        format!("{JSON_MAX:x}\r\n").as_bytes(),
        &vec![b' '; JSON_MAX],
        b"\r\n",
    ]
    .concat();
    growing.send(&part).await;
    growing.send(b"1\r\n \r\n").await;
    growing.answer().await.unwrap().refused(ProblemCode::TooLarge);
    // At the limit it is read, and refused for what it is.
    let at_the_limit = server.request("POST", api::SESSIONS, &vec![b' '; JSON_MAX]).await;
    at_the_limit.refused(ProblemCode::Malformed);
    for (path, limit) in [(api::RECORDS, RECORD_MAX), (api::HEAD, JSON_MAX)] {
        let (header, mac) = client.authorize("POST", path, b"");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\ncontent-length: {}\r\n\r\n",
            limit + 1
        );
        let mut connection = server.connect().await;
        connection.send(head.as_bytes()).await;
        let answer = connection.answer().await.unwrap();
        client.check(&answer, &mac);
        answer.refused(ProblemCode::TooLarge);
    }
}

#[tokio::test]
async fn a_body_in_chunks_is_as_good_as_one_of_announced_length() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let record = client.next(1);
    let (header, mac) = client.authorize("POST", api::RECORDS, &record);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\ntransfer-encoding: chunked\r\n\r\n",
        api::RECORDS
    );
    client.connection.send(head.as_bytes()).await;
    for part in record.chunks(100) {
        let framed = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        client.connection.send(&framed).await;
    }
    client.connection.send(b"0\r\n\r\n").await;
    let answer = client.connection.answer().await.unwrap();
    client.check(&answer, &mac);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up_on() {
    let server = TestServer::start_with(|config| config.body_grace = Duration::from_millis(50)).await;
    let mut client = Node::new(1).first(&server).await;
    let record = client.next(1);
    let (header, mac) = client.authorize("POST", api::RECORDS, &record);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\ncontent-length: {}\r\n\r\n",
        api::RECORDS,
        record.len()
    );
    client.connection.send(head.as_bytes()).await;
    client.connection.send(&record[..100]).await;
    let answer = client.connection.answer().await.unwrap();
    client.check(&answer, &mac);
    answer.refused(ProblemCode::Timeout);
    client.connection = server.connect().await;
    client.append(1).await;
}

#[tokio::test]
async fn a_request_cut_anywhere_changes_nothing() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let record = client.next(1);
    let (header, _) = client.authorize("POST", api::RECORDS, &record);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\ncontent-length: {}\r\n\r\n",
        api::RECORDS,
        record.len()
    );
    let whole = [head.as_bytes(), &record].concat();
    for cut in (0..whole.len()).step_by(61) {
        let mut connection = Connection::open(server.addr).await;
        connection.send(&whole[..cut]).await;
        drop(connection);
    }
    assert_eq!(client.state().await.head, Head::EMPTY);
    client.append(1).await;
}

#[tokio::test]
async fn what_is_under_way_is_finished_when_the_server_stops() {
    let mut server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let record = client.next(1);
    let (header, mac) = client.authorize("POST", api::RECORDS, &record);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        api::RECORDS,
        record.len()
    );
    client.connection.send(head.as_bytes()).await;
    // The server is reading the body now.
    assert_eq!(client.connection.answer().await.unwrap().status, 100);
    server.begin_stop();
    client.connection.send(&record).await;
    let answer = client.connection.answer().await.unwrap();
    client.check(&answer, &mac);
    assert_eq!(answer.status, 200);
    assert!(client.connection.answer().await.is_none());
    server.stopped().await;
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_the_server_from_stopping() {
    let mut server = TestServer::start_with(|config| config.drain = Duration::from_millis(50)).await;
    let mut idle = server.connect().await;
    let mut stuck = server.connect().await;
    idle.request("GET", api::HEALTH, &[], b"").await;
    stuck
        .send(b"POST /v1/sessions HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(stuck.answer().await.unwrap().status, 100);
    server.begin_stop();
    server.stopped().await;
}
