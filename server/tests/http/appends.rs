//! The log over HTTP.

use crate::support::{Node, TestServer};
use backstop_protocol::{
    api::{self, Appended, RECORD_PAGE},
    head::Head,
    id::{RecordHash, TimelineId},
    problem::ProblemCode,
    record::{RECORD_MIN, record_hash},
};

#[tokio::test]
async fn records_come_back_in_order_with_the_time_of_their_arrival() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let start = client.state().await.time;
    let mut sent = Vec::new();
    for fill in 0..5 {
        server.clock.advance(1000);
        sent.push(client.append(fill).await);
    }
    let page = client.call("GET", "/v1/records?from=2", b"").await;
    let frames = api::parse_frames(page.octets()).unwrap();
    let times: Vec<_> = frames.iter().map(|(at, _)| at.0 - start.0).collect();
    assert_eq!(times, [2000, 3000, 4000, 5000]);
    assert!(
        frames
            .iter()
            .map(|(_, sealed)| sealed.to_vec())
            .eq(sent[1..].iter().cloned())
    );
    let state = client.state().await;
    assert_eq!(state.head, client.head);
    assert_eq!(state.head_received_at.unwrap().0 - start.0, 5000);
    assert_eq!((state.first_seq, state.log_bytes), (1, 5 * RECORD_MIN as u64));
    assert_eq!(state.timeline, Some(client.timeline));
    assert_eq!(client.call("GET", "/v1/records?from=6", b"").await.octets(), b"");
}

#[tokio::test]
async fn the_same_record_again_succeeds_and_answers_the_present_head() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let first = client.append(1).await;
    let second = client.append(2).await;
    for sealed in [first, second] {
        let appended: Appended = client.try_append(&sealed).await.json();
        assert_eq!(appended.head, client.head);
    }
    assert_eq!(client.log().await.len(), 2);
}

#[tokio::test]
async fn a_record_that_does_not_continue_the_chain_learns_where_it_ends() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    client.append(1).await;
    let wrong = [
        client.record(1, 3, client.head.hash, 9, RECORD_MIN),
        client.record(1, 2, RecordHash([9; 32]), 9, RECORD_MIN),
        client.record(1, 1, RecordHash::NONE, 9, RECORD_MIN),
        client.record(2, 2, client.head.hash, 9, RECORD_MIN),
    ];
    for sealed in wrong {
        let problem = client.try_append(&sealed).await.refused(ProblemCode::NotNext);
        assert_eq!(problem.head, Some(client.head));
    }
    let mine = client.timeline;
    client.timeline = TimelineId([9; 16]);
    let elsewhere = client.next(2);
    client
        .try_append(&elsewhere)
        .await
        .refused(ProblemCode::WrongTimeline);
    client.timeline = mine;
    client.append(2).await;
}

#[tokio::test]
async fn bytes_that_are_no_record_are_malformed_and_change_nothing() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let good = client.next(1);
    let mut magic = good.clone();
    magic[0] ^= 1;
    let mut version = good.clone();
    version[4] = 9;
    let mut kind = good.clone();
    kind[5] = 16;
    for sealed in [
        vec![],
        good[..93].to_vec(),
        good[..RECORD_MIN - 1].to_vec(),
        magic,
        version,
        kind,
    ] {
        client.try_append(&sealed).await.refused(ProblemCode::Malformed);
    }
    assert_eq!(client.state().await.head, Head::EMPTY);
}

#[tokio::test]
async fn a_record_of_a_higher_epoch_replaces_the_last_one() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut old = node.first(&server).await;
    let first = old.append(1).await;
    old.append(2).await;
    let mut new = node.open(&server, node.opening(&server, node.claim(1, 2))).await;
    let replacing = new.record(2, 2, record_hash(&first), 3, RECORD_MIN);
    let appended: Appended = new.try_append(&replacing).await.json();
    assert_eq!(appended.head.hash, record_hash(&replacing));
    assert_eq!(new.log().await, [first, replacing]);
    let late = old.next(4);
    old.try_append(&late).await.refused(ProblemCode::Fenced);
}

#[tokio::test]
async fn a_read_session_appends_nothing() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut writer = node.first(&server).await;
    writer.append(1).await;
    let mut reader = node.open(&server, node.read_opening(&server)).await;
    let next = reader.record(1, 2, writer.head.hash, 2, RECORD_MIN);
    reader
        .try_append(&next)
        .await
        .refused(ProblemCode::ScopeInsufficient);
    let pack = format!("/v1/packs/{}", "00".repeat(32));
    reader
        .call("PUT", &pack, b"")
        .await
        .refused(ProblemCode::ScopeInsufficient);
    reader
        .call("POST", api::SNAPSHOTS, b"")
        .await
        .refused(ProblemCode::ScopeInsufficient);
}

#[tokio::test]
async fn long_logs_come_in_pages_and_a_longer_record_comes_alone() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let mut sent = Vec::new();
    for (fill, len) in [
        (1, RECORD_PAGE / 2),
        (2, RECORD_PAGE / 2),
        (3, RECORD_PAGE + 1),
        (4, 400),
        (5, 400),
    ] {
        let sealed = client.record(1, client.head.seq + 1, client.head.hash, fill, len);
        let appended: Appended = client.try_append(&sealed).await.json();
        client.head = appended.head;
        sent.push(sealed);
    }
    let mut pages = Vec::new();
    let mut from = 1;
    while from <= 5 {
        let page = client.call("GET", &format!("/v1/records?from={from}"), b"").await;
        let records = api::parse_frames(page.octets()).unwrap().len();
        pages.push(records);
        from += records;
    }
    assert_eq!(pages, [2, 1, 2]);
    assert_eq!(client.log().await, sent);
}

#[tokio::test]
async fn a_page_must_be_asked_for_by_a_seq() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    for query in [
        "",
        "?from=",
        "?from=-1",
        "?from=x",
        "?from=1&from=2",
        "?from=1&to=2",
        "?from=99999999999999999999",
    ] {
        let path = format!("{}{query}", api::RECORDS);
        client
            .call("GET", &path, b"")
            .await
            .refused(ProblemCode::Malformed);
    }
    assert_eq!(
        client
            .call("GET", "/v1/records?from=18446744073709551615", b"")
            .await
            .octets(),
        b""
    );
}

#[tokio::test]
async fn two_sessions_that_race_for_one_seq_leave_one_chain() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut one = node.first(&server).await;
    let mut other = node.first(&server).await;
    for round in 0..20 {
        let (mine, theirs) = (one.next(2 * round), other.next(2 * round + 1));
        let (first, second) = tokio::join!(one.try_append(&mine), other.try_append(&theirs));
        let (won, lost, winner) = if first.status == 200 {
            (first, second, &mine)
        } else {
            (second, first, &theirs)
        };
        let head = won.json::<Appended>().head;
        assert_eq!(head.hash, record_hash(winner));
        assert_eq!(lost.refused(ProblemCode::NotNext).head, Some(head));
        (one.head, other.head) = (head, head);
    }
    assert_eq!(one.log().await.len(), 20);
}

#[tokio::test]
async fn a_node_that_has_the_token_of_another_reaches_nothing_with_its_own_key() {
    let server = TestServer::start().await;
    let mut one = Node::new(1).first(&server).await;
    one.append(1).await;
    let mut other = Node::new(2).first(&server).await;
    other.token.clone_from(&one.token);
    let (header, _) = other.authorize("GET", api::HEAD, b"");
    let answer = other
        .connection
        .request("GET", api::HEAD, &[("authorization", &header)], b"")
        .await;
    answer.refused(ProblemCode::BadMac);
}

#[tokio::test]
async fn a_full_database_answers_507_with_the_log_intact() {
    let server = TestServer::start_with(|config| config.database_limit = Some(400 << 10)).await;
    let mut client = Node::new(1).first(&server).await;
    let mut sent = Vec::new();
    let refused = loop {
        let sealed = client.record(1, client.head.seq + 1, client.head.hash, 1, 5000);
        let answer = client.try_append(&sealed).await;
        if answer.status != 200 {
            answer.refused(ProblemCode::StorageFull);
            break sealed;
        }
        client.head = answer.json::<Appended>().head;
        sent.push(sealed);
    };
    client
        .try_append(&refused)
        .await
        .refused(ProblemCode::StorageFull);
    assert_eq!(client.log().await, sent);
    assert_eq!(client.state().await.head, client.head);
    let server = server.restart().await;
    client.connection = server.connect().await;
    let appended: Appended = client.try_append(&refused).await.json();
    assert_eq!(appended.head.hash, record_hash(&refused));
}
