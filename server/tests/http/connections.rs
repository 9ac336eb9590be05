//! What a connection may cost: slow, silent, greedy and numerous clients.

use crate::{
    process::Process,
    support::{Connection, Node, TestServer},
};
use backstop_protocol::api;
use backstop_server::{Config, Limits, Server, ServerError};
use getrandom::{SysRng, rand_core::UnwrapErr};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const SHORT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_mins(1);

/// A server with metrics, whose connections have so much time.
async fn server(change: impl FnOnce(&mut Limits)) -> TestServer {
    TestServer::start_with(|config| {
        config.metrics = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.limits = Limits {
            head: LONG,
            idle: LONG,
            stall: LONG,
            ..config.limits
        };
        change(&mut config.limits);
    })
    .await
}

async fn cut(server: &TestServer, why: &str) -> u64 {
    let name = format!("backstop_connections_cut_total{{why=\"{why}\"}}");
    server.metric(&name).await
}

/// Waits for the end of a connection that nothing is sent on.
async fn ends(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let end = timeout(LONG / 2, stream.read(&mut [0; 64])).await;
    assert!(matches!(end.unwrap(), Ok(0) | Err(_)));
    began.elapsed()
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_not_waited_for() {
    let server = server(|limits| limits.head = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let began = Instant::now();
    let head = format!("GET {} HTTP/1.1\r\nx: ", api::HEALTH);
    stream.write_all(head.as_bytes()).await.unwrap();
    // Each byte is in time; the head is not.
    while stream.write_all(b"x").await.is_ok() {
        assert!(began.elapsed() < LONG / 2, "it is waited for");
        sleep(SHORT / 10).await;
    }
    assert!(began.elapsed() >= SHORT);
    assert_eq!(cut(&server, "head").await, 1);
}

#[tokio::test]
async fn the_head_of_a_later_request_has_its_own_time_from_its_first_byte_on() {
    let server = server(|limits| limits.head = SHORT).await;
    let mut connection = server.connect().await;
    for _ in 0..2 {
        connection.request("GET", api::HEALTH, &[], b"").await;
        // Silence is no slow head.
        sleep(SHORT * 2).await;
    }
    connection.send(b"GET").await;
    assert!(connection.answer().await.is_none());
    assert_eq!(cut(&server, "head").await, 1);
}

#[tokio::test]
async fn who_connects_and_says_nothing_is_let_go() {
    let server = server(|limits| limits.head = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    assert!(ends(&mut stream).await >= SHORT / 2);
}

#[tokio::test]
async fn a_connection_that_is_idle_for_too_long_is_closed_and_one_in_use_is_not() {
    let server = server(|limits| limits.idle = SHORT).await;
    let mut client = Node::new(1).first(&server).await;
    for fill in 0..6 {
        client.append(fill).await;
        sleep(SHORT / 4).await;
    }
    sleep(SHORT * 2).await;
    assert!(client.connection.answer().await.is_none());
    assert!(cut(&server, "idle").await >= 1);
    client.connection = server.connect().await;
    client.append(9).await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_cut_off() {
    let server = server(|limits| limits.stall = SHORT).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let began = Instant::now();
    let requests = format!("GET {} HTTP/1.1\r\nhost: t\r\n\r\n", api::INFO).repeat(1000);
    // Not a byte is read: in the end neither side's system takes more.
    while timeout(LONG / 2, stream.write_all(requests.as_bytes()))
        .await
        .expect("it is waited for")
        .is_ok()
    {}
    assert!(began.elapsed() >= SHORT);
    assert_eq!(cut(&server, "stall").await, 1);
    // It asked more often than anybody may.
    server.clock.advance(60_000);
    assert_eq!(server.request("GET", api::HEALTH, b"").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_long_or_has_too_many_lines_is_refused() {
    let server = server(|_| ()).await;
    let long = "x".repeat(70 << 10);
    let answer = server
        .connect()
        .await
        .request("GET", api::HEALTH, &[("x", &long)], b"")
        .await;
    assert_eq!(answer.status, 431);
    let many = vec![("x", "y"); 200];
    let answer = server
        .connect()
        .await
        .request("GET", api::HEALTH, &many, b"")
        .await;
    assert_eq!(answer.status, 431);
    let fits = "x".repeat(16 << 10);
    let answer = server
        .connect()
        .await
        .request("GET", api::HEALTH, &[("x", &fits)], b"")
        .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn so_many_connections_are_open_and_no_more() {
    let server = server(|limits| limits.connections = 2).await;
    let mut open = [server.connect().await, server.connect().await];
    for connection in &mut open {
        connection.request("GET", api::HEALTH, &[], b"").await;
    }
    let mut third = TcpStream::connect(server.addr).await.unwrap();
    assert!(ends(&mut third).await < LONG / 2);
    assert_eq!(server.metric("backstop_connections_refused_total").await, 1);
    assert_eq!(server.metric("backstop_connections_open").await, 2);
    let [first, second] = open;
    drop(first);
    while server.metric("backstop_connections_open").await > 1 {
        sleep(Duration::from_millis(5)).await;
    }
    server.connect().await.request("GET", api::HEALTH, &[], b"").await;
    drop(second);
}

#[tokio::test]
async fn http_2_is_spoken_to_who_begins_with_it() {
    let server = server(|_| ()).await;
    let mut client = Node::new(1).first(&server).await;
    client.append(1).await;
    let stream = TokioIo::new(TcpStream::connect(server.addr).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let record = client.next(2);
    let (header, _) = client.authorize("POST", api::RECORDS, &record);
    let request = Request::post(format!("http://{}{}", server.addr, api::RECORDS))
        .header("authorization", header)
        .body(axum::body::Body::from(record.clone()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    assert_eq!(client.log().await.last(), Some(&record));
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_closed_too() {
    let server = server(|limits| (limits.idle, limits.head) = (SHORT, SHORT)).await;
    let stream = TokioIo::new(TcpStream::connect(server.addr).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    let request = Request::get(format!("http://{}{}", server.addr, api::HEALTH));
    let answer = sender
        .send_request(request.body(axum::body::Body::empty()).unwrap())
        .await;
    assert_eq!(answer.unwrap().status(), 200);
    timeout(LONG / 2, ended).await.unwrap().unwrap().unwrap();
    assert_eq!(cut(&server, "idle").await, 1);
    assert_eq!(cut(&server, "head").await, 0);
}

#[tokio::test]
async fn an_address_that_others_reach_needs_tls_or_a_word() {
    let dir = tempfile::tempdir().unwrap();
    for address in [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        "::".parse().unwrap(),
        "192.0.2.1".parse().unwrap(),
        "::ffff:192.0.2.1".parse().unwrap(),
    ] {
        let mut config = Config::new(dir.path().join("data"));
        config.listen = SocketAddr::new(address, 0);
        let mut rng = UnwrapErr(SysRng);
        let bound = Server::bind(config, Arc::new(backstop_protocol::clock::SystemClock), &mut rng);
        let Err(error @ ServerError::Exposed { .. }) = bound.await else {
            panic!("{address} was listened on");
        };
        let said = error.to_string();
        assert!(
            said.contains("--tls-cert") && said.contains("--plain-http"),
            "{said}"
        );
    }
    let server = TestServer::start_with(|config| {
        config.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        config.plain_http = true;
    })
    .await;
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, server.addr.port()));
    Connection::open(here)
        .await
        .request("GET", api::HEALTH, &[], b"")
        .await;
}

#[test]
fn ten_thousand_connections_that_say_nothing_keep_no_node_waiting() {
    const CROWD: usize = 10_000;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(
        most > CROWD as u64 + 500,
        "this test opens {CROWD} connections: raise the limit of open files (ulimit -Hn), which is {most}"
    );
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| std::net::TcpStream::connect(process.place.addr).unwrap())
        .collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let node = Node::new(1);
        let mut client = node.first(&process.place).await;
        for fill in 0..20 {
            client.append(fill).await;
        }
        assert_eq!(client.log().await.len(), 20);
    });
    drop(crowd);
}
