//! Packs and snapshots over HTTP.

use crate::support::{Node, TestServer, pack};
use backstop_protocol::{
    api::{self, LOCATE_MAX, PACK_MAX, SnapshotInfo, SnapshotList},
    chunk::{ChunkPlace, encode_ids, parse_places},
    id::{ChunkId, PackId, RecordHash, TimelineId},
    problem::ProblemCode,
};
use std::path::PathBuf;

fn path(pack: PackId) -> String {
    format!("{}/{pack}", api::PACKS)
}

fn ids(list: &[u8]) -> Vec<u8> {
    encode_ids(&list.iter().map(|id| ChunkId([*id; 32])).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_pack_comes_back_whole_and_each_chunk_from_where_it_is_located() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let id = client.put_pack(&[10, 20]).await;
    assert_eq!(client.put_pack(&[10, 20]).await, id);
    assert_eq!(
        client.call("GET", &path(id), b"").await.octets(),
        pack(&[10, 20]).1
    );
    let answer = client.call("POST", api::LOCATE, &ids(&[20, 99])).await;
    let places = parse_places(answer.octets(), 2).unwrap();
    let [Some(ChunkPlace { pack, offset, len }), None] = places[..] else {
        panic!("{places:?}");
    };
    let part = format!("{}?offset={offset}&length={len}", path(pack));
    assert_eq!(client.call("GET", &part, b"").await.octets(), [20; 300]);
}

#[tokio::test]
async fn a_part_of_a_pack_lies_within_it_and_has_two_bounds() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let id = client.put_pack(&[10]).await;
    let wrong = [
        "?offset=1",
        "?length=1",
        "?offset=1&length=0",
        "?offset=0&length=343",
        "?offset=342&length=1",
        "?offset=4294967295&length=4294967295",
        "?offset=-1&length=1",
        "?offset=0&length=4294967296",
        "?offset=0&length=1&length=2",
        "?offset=0&length=1&more=1",
    ];
    for query in wrong {
        let part = format!("{}{query}", path(id));
        client
            .call("GET", &part, b"")
            .await
            .refused(ProblemCode::Malformed);
    }
    let whole = format!("{}?offset=0&length=342", path(id));
    assert_eq!(client.call("GET", &whole, b"").await.octets().len(), 342);
}

#[tokio::test]
async fn a_pack_whose_bytes_are_not_what_its_name_says_is_refused_and_not_kept() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let (id, bytes) = pack(&[10]);
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for body in [&flipped, &bytes[..bytes.len() - 1].to_vec(), &Vec::new()] {
        client
            .call("PUT", &path(id), body)
            .await
            .refused(ProblemCode::HashMismatch);
    }
    client
        .call("GET", &path(id), b"")
        .await
        .refused(ProblemCode::NotFound);
    for name in ["00", "zz", &"AB".repeat(32), &"00".repeat(33)] {
        let answer = client
            .call("PUT", &format!("{}/{name}", api::PACKS), &bytes)
            .await;
        answer.refused(ProblemCode::Malformed);
    }
}

#[tokio::test]
async fn a_damaged_pack_of_the_right_name_is_never_indexed() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let (_, bytes) = pack(&[10, 20]);
    let mut long_chunk = bytes.clone();
    long_chunk[6 + 32] = 0xff;
    for body in [
        bytes[..bytes.len() - 1].to_vec(),
        bytes[..6].to_vec(),
        long_chunk,
        pack(&[10, 10]).1,
    ] {
        let id = PackId(backstop_protocol::hash::sha256(&body));
        client
            .call("PUT", &path(id), &body)
            .await
            .refused(ProblemCode::Malformed);
        client
            .call("GET", &path(id), b"")
            .await
            .refused(ProblemCode::NotFound);
    }
    let answer = client.call("POST", api::LOCATE, &ids(&[10, 20])).await;
    assert_eq!(parse_places(answer.octets(), 2).unwrap(), [None, None]);
}

#[tokio::test]
async fn a_pack_may_be_as_long_as_the_limit_and_no_longer() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let (id, _) = pack(&[10]);
    let refused = client.call("PUT", &path(id), &vec![0; PACK_MAX]).await;
    refused.refused(ProblemCode::HashMismatch);
    let (header, mac) = client.authorize("PUT", &path(id), b"");
    let length = (PACK_MAX + 1).to_string();
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: test\r\nauthorization: {header}\r\ncontent-length: {length}\r\n\r\n",
        path(id)
    );
    client.connection.send(head.as_bytes()).await;
    let answer = client.connection.answer().await.unwrap();
    client.check(&answer, &mac);
    answer.refused(ProblemCode::TooLarge);
}

#[tokio::test]
async fn so_many_chunks_are_located_at_once_and_no_more() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let many = vec![7; LOCATE_MAX * 32];
    let answer = client.call("POST", api::LOCATE, &many).await;
    assert_eq!(
        parse_places(answer.octets(), LOCATE_MAX).unwrap(),
        vec![None; LOCATE_MAX]
    );
    client
        .call("POST", api::LOCATE, &many[1..])
        .await
        .refused(ProblemCode::Malformed);
}

#[tokio::test]
async fn a_snapshot_is_committed_listed_and_its_manifest_comes_back() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    client.append(1).await;
    client.put_pack(&[10, 20]).await;
    let first = client.commit(1, None, &[10, 20], &[]);
    let info: SnapshotInfo = client.try_commit(&first).await.json();
    assert_eq!(
        (info.base_seq, info.base_hash, info.bytes),
        (1, client.head.hash, 600)
    );
    let again: SnapshotInfo = client.try_commit(&first).await.json();
    assert_eq!(again, info);
    client.append(2).await;
    client.put_pack(&[30]).await;
    let second: SnapshotInfo = client
        .try_commit(&client.commit(2, Some(1), &[30], &[10]))
        .await
        .json();
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots, [second, info]);
    assert_eq!(client.state().await.snapshot, Some(second));
    let manifest = format!("{}/{}/manifest", api::SNAPSHOTS, info.snapshot);
    assert_eq!(client.call("GET", &manifest, b"").await.octets(), first.manifest);
}

#[tokio::test]
async fn a_commit_that_breaks_a_rule_is_refused_by_name_and_leaves_nothing() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    client.append(1).await;
    client.put_pack(&[10]).await;
    let missing = client.commit(1, None, &[10, 20], &[]);
    let problem = client
        .try_commit(&missing)
        .await
        .refused(ProblemCode::ChunksMissing);
    assert_eq!(problem.missing, [ChunkId([20; 32])]);
    let orphan = client.commit(1, Some(9), &[10], &[]);
    client.try_commit(&orphan).await.refused(ProblemCode::NotFound);
    let both = client.commit(1, Some(9), &[10], &[10]);
    client.try_commit(&both).await.refused(ProblemCode::Malformed);
    let head = client.head;
    client.head.hash = RecordHash([9; 32]);
    let elsewhere = client.commit(1, None, &[10], &[]);
    client
        .try_commit(&elsewhere)
        .await
        .refused(ProblemCode::NotOnChain);
    client.head = head;
    client.timeline = TimelineId([9; 16]);
    let other_timeline = client.commit(1, None, &[10], &[]);
    client
        .try_commit(&other_timeline)
        .await
        .refused(ProblemCode::WrongTimeline);
    let cut = missing.encode();
    let answer = client.call("POST", api::SNAPSHOTS, &cut[..cut.len() - 1]).await;
    answer.refused(ProblemCode::Malformed);
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots, []);
    let manifest = format!("{}/{}/manifest", api::SNAPSHOTS, "01".repeat(16));
    client
        .call("GET", &manifest, b"")
        .await
        .refused(ProblemCode::NotFound);
    node.open(&server, node.opening(&server, node.claim(1, 2))).await;
    client.timeline = TimelineId([1; 16]);
    let late = client.commit(1, None, &[10], &[]);
    client.try_commit(&late).await.refused(ProblemCode::Fenced);
}

#[tokio::test]
async fn nodes_see_their_own_packs_chunks_and_snapshots_alone() {
    let server = TestServer::start().await;
    let mut one = Node::new(1).first(&server).await;
    one.append(1).await;
    let id = one.put_pack(&[10]).await;
    one.try_commit(&one.commit(1, None, &[10], &[]))
        .await
        .json::<SnapshotInfo>();
    let mut other = Node::new(2).first(&server).await;
    other.append(1).await;
    other
        .call("GET", &path(id), b"")
        .await
        .refused(ProblemCode::NotFound);
    let located = other.call("POST", api::LOCATE, &ids(&[10])).await;
    assert_eq!(parse_places(located.octets(), 1).unwrap(), [None]);
    let list: SnapshotList = other.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots, []);
    let manifest = format!("{}/{}/manifest", api::SNAPSHOTS, "01".repeat(16));
    other
        .call("GET", &manifest, b"")
        .await
        .refused(ProblemCode::NotFound);
    let borrowed = other.commit(2, None, &[10], &[]);
    other
        .try_commit(&borrowed)
        .await
        .refused(ProblemCode::ChunksMissing);
}

#[tokio::test]
async fn a_disk_that_fails_is_an_internal_error_that_tells_nothing_of_it() {
    let server = TestServer::start().await;
    let mut client = Node::new(1).first(&server).await;
    let temporary: PathBuf = server.data.join("packs/temporary");
    std::fs::remove_dir(&temporary).unwrap();
    let (id, bytes) = pack(&[10]);
    let problem = client
        .call("PUT", &path(id), &bytes)
        .await
        .refused(ProblemCode::Internal);
    assert!(
        !problem.detail.contains("temporary") && !problem.detail.contains("directory"),
        "{problem}"
    );
    std::fs::create_dir(&temporary).unwrap();
    client.put_pack(&[10]).await;
}
