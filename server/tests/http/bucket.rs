//! Packs in object storage: real server processes, a real S3 server, and what happens when it fails.

use crate::{
    process::{Process, command, command_over, fails, program},
    support::{Client, Cluster, Fault, Hop, KEY_ID, Node, SECRET, Storage, pack},
};
use backstop_protocol::{
    api::{self, SnapshotInfo},
    chunk::{encode_ids, parse_places},
    id::ChunkId,
    problem::ProblemCode,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Lets a server keep its packs in a bucket.
pub(crate) fn into_bucket(mut command: Command, bucket: &str, endpoint: &str) -> Command {
    command
        .args([
            "--packs",
            &format!("s3://{bucket}/packs"),
            "--packs-endpoint",
            endpoint,
        ])
        .args(["--packs-timeout", "1s"])
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
    command
}

fn start(data: &Path, bucket: &str, endpoint: &str) -> Process {
    Process::run(into_bucket(command(data), bucket, endpoint))
}

/// The files of all packs in a bucket.
fn packs(bucket: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![Storage::shared().directory(bucket)]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                open.push(path);
            } else if name.len() == 64 && !name.contains('.') {
                found.push(path);
            }
        }
    }
    found
}

/// Every one of the chunks, fetched as a restore does.
async fn fetched(client: &mut Client, chunks: &[u8]) -> Vec<Vec<u8>> {
    let ids: Vec<_> = chunks.iter().map(|id| ChunkId([*id; 32])).collect();
    let answer = client.call("POST", api::LOCATE, &encode_ids(&ids)).await;
    let mut fetched = Vec::new();
    for place in parse_places(answer.octets(), ids.len()).unwrap() {
        let place = place.unwrap();
        let (pack, offset, len) = (place.pack, place.offset, place.len);
        let part = format!("{}/{pack}?offset={offset}&length={len}", api::PACKS);
        fetched.push(client.call("GET", &part, b"").await.octets().to_vec());
    }
    fetched
}

#[tokio::test]
async fn packs_in_a_bucket_survive_the_server_and_no_secret_is_left_in_what_it_says() {
    let storage = Storage::shared();
    let (dir, bucket) = (tempfile::tempdir().unwrap(), storage.bucket());
    let node = Node::new(1);
    let mut process = start(dir.path(), &bucket, &storage.endpoint);
    assert!(
        process
            .greeting
            .contains(&format!("packs in s3://{bucket}/packs")),
        "{}",
        process.greeting
    );
    let mut client = node.first(&process.place).await;
    client.append(1).await;
    client.put_pack(&[10, 11]).await;
    client.put_pack(&[10, 11]).await;
    let commit = client.commit(1, None, &[10, 11], &[]);
    client.try_commit(&commit).await.json::<SnapshotInfo>();
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    assert_eq!(packs(&bucket).len(), 1);
    assert!(!dir.path().join("packs").exists());
    let process = start(dir.path(), &bucket, &storage.endpoint);
    let mut client = node.open(&process.place, node.read_opening(&process.place)).await;
    assert_eq!(fetched(&mut client, &[10, 11]).await, [[10; 300], [11; 300]]);
    drop(process);
    for file in ["backstop.sqlite3", "identity.key"] {
        let bytes = std::fs::read(dir.path().join(file)).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    }
}

#[tokio::test]
async fn servers_over_one_database_and_one_bucket_have_the_same_packs() {
    let (cluster, storage) = (Cluster::shared(), Storage::shared());
    let (url, bucket) = (cluster.url(&cluster.database()), storage.bucket());
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        Process::run(into_bucket(
            command_over(dir.path(), &url),
            &bucket,
            &storage.endpoint,
        ))
    };
    let processes = [start(), start(), start()];
    let node = Node::new(1);
    let mut client = node.first(&processes[0].place).await;
    client.append(1).await;
    for at in 0..3_u8 {
        client.connection = processes[usize::from(at)].place.connect().await;
        client.put_pack(&[10 + at]).await;
    }
    let commit = client.commit(1, None, &[10, 11, 12], &[]);
    client.try_commit(&commit).await.json::<SnapshotInfo>();
    for process in &processes {
        client.connection = process.place.connect().await;
        assert_eq!(
            fetched(&mut client, &[10, 11, 12]).await,
            [[10; 300], [11; 300], [12; 300]]
        );
    }
}

// The hop goes on while the test waits for the server's start.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_away_packs_wait_and_appends_go_on() {
    let storage = Storage::shared();
    let (dir, bucket) = (tempfile::tempdir().unwrap(), storage.bucket());
    let hop = Hop::before(&storage.endpoint).await;
    let process = start(dir.path(), &bucket, &hop.endpoint);
    let mut client = Node::new(1).first(&process.place).await;
    let (id, bytes) = pack(&[10]);
    let path = format!("{}/{id}", api::PACKS);
    for fault in [Fault::Answer("503 Slow Down", "SlowDown"), Fault::CutUpload(300)] {
        hop.set(fault);
        client
            .call("PUT", &path, &bytes)
            .await
            .refused(ProblemCode::Unavailable);
        client.append(1).await;
        let answer = client.call("POST", api::LOCATE, &[10; 32]).await;
        assert_eq!(parse_places(answer.octets(), 1).unwrap(), [None]);
    }
    hop.set(Fault::None);
    assert_eq!(client.call("PUT", &path, &bytes).await.octets(), b"");
    hop.set(Fault::CutDownload(10));
    let before = hop.struck();
    client
        .call("GET", &path, b"")
        .await
        .refused(ProblemCode::Unavailable);
    assert!(hop.struck() > before);
    hop.set(Fault::Silence);
    client
        .call("GET", &path, b"")
        .await
        .refused(ProblemCode::Unavailable);
    hop.set(Fault::None);
    assert_eq!(client.call("GET", &path, b"").await.octets(), bytes);
    // One that somebody deleted is said to be missing, and nothing breaks.
    std::fs::remove_file(&packs(&bucket)[0]).unwrap();
    client
        .call("GET", &path, b"")
        .await
        .refused(ProblemCode::NotFound);
    client.call("PUT", &path, &bytes).await.octets();
    assert_eq!(client.call("GET", &path, b"").await.octets(), bytes);
}

#[test]
fn a_bucket_that_cannot_be_used_is_said_with_what_to_do() {
    let storage = Storage::shared();
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = into_bucket(command(dir.path()), &storage.bucket(), &storage.endpoint);
    wrong.env("AWS_SECRET_ACCESS_KEY", "hunter2");
    let said = fails(wrong);
    assert!(
        said.contains("AWS_SECRET_ACCESS_KEY") && !said.contains("hunter2"),
        "{said}"
    );
    let mut alone = command(dir.path());
    alone.args(["--packs-endpoint", &storage.endpoint]);
    let said = fails(alone);
    assert!(said.contains("--packs s3://BUCKET"), "{said}");
}

fn scrub(data: &Path, bucket: &str, endpoint: &str) -> (Option<i32>, serde_json::Value) {
    let mut command = program();
    command
        .args(["scrub", "--json", "--rate", "0", "--data"])
        .arg(data);
    let output = into_bucket(command, bucket, endpoint).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code(), report)
}

#[tokio::test]
async fn a_lost_and_a_damaged_object_are_named_by_a_scrub_and_healed_by_the_node() {
    let storage = Storage::shared();
    let (dir, bucket) = (tempfile::tempdir().unwrap(), storage.bucket());
    let process = start(dir.path(), &bucket, &storage.endpoint);
    let node = Node::new(1);
    let mut client = node.first(&process.place).await;
    client.append(1).await;
    let (lost, damaged) = (client.put_pack(&[10]).await, client.put_pack(&[20]).await);
    client.put_pack(&[30]).await;
    let commit = client.commit(1, None, &[10, 20, 30], &[]);
    client.try_commit(&commit).await.json::<SnapshotInfo>();
    let (code, report) = scrub(dir.path(), &bucket, &storage.endpoint);
    assert_eq!(
        (code, &report["packs"]),
        (Some(0), &serde_json::json!(3)),
        "{report}"
    );
    for file in packs(&bucket) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name == lost.to_string() {
            std::fs::remove_file(&file).unwrap();
        } else if name == damaged.to_string() {
            let mut bytes = std::fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&file, bytes).unwrap();
        }
    }
    let (code, report) = scrub(dir.path(), &bucket, &storage.endpoint);
    assert_eq!(code, Some(3), "{report}");
    let faults = report["faults"].as_array().unwrap();
    let mut found: Vec<_> = faults
        .iter()
        .map(|fault| (fault["kind"].as_str().unwrap(), fault["object"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    let (lost, damaged) = (format!("pack {lost}"), format!("pack {damaged}"));
    assert_eq!(found, [("pack_damaged", &damaged[..]), ("pack_lost", &lost[..])]);
    assert_eq!(faults[0]["node"], node.id().to_string());
    // The node's next question makes it send them again; who restores is told what there is.
    let ids = encode_ids(&[10, 20, 30].map(|id| ChunkId([id; 32])));
    let there = async |client: &mut Client| {
        let answer = client.call("POST", api::LOCATE, &ids).await;
        let places = parse_places(answer.octets(), 3).unwrap();
        places.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    assert_eq!(there(&mut client).await, [false, false, true]);
    let mut reader = node.open(&process.place, node.read_opening(&process.place)).await;
    assert_eq!(there(&mut reader).await, [true; 3]);
    let commit = client.commit(2, Some(1), &[], &[]);
    let refused = client
        .try_commit(&commit)
        .await
        .refused(ProblemCode::ChunksMissing);
    assert_eq!(refused.missing.len(), 2);
    client.put_pack(&[10, 20]).await;
    assert_eq!(there(&mut client).await, [true; 3]);
    client.try_commit(&commit).await.json::<SnapshotInfo>();
    assert_eq!(
        fetched(&mut client, &[10, 20, 30]).await,
        [[10; 300], [20; 300], [30; 300]]
    );
    let (code, report) = scrub(dir.path(), &bucket, &storage.endpoint);
    assert_eq!(code, Some(0), "{report}");
}

#[tokio::test]
async fn a_scrub_that_cannot_be_done_says_so_and_finds_nothing_lost() {
    let storage = Storage::shared();
    let (dir, bucket) = (tempfile::tempdir().unwrap(), storage.bucket());
    let process = start(dir.path(), &bucket, &storage.endpoint);
    let mut client = Node::new(1).first(&process.place).await;
    client.put_pack(&[10]).await;
    // Packs are in the bucket, and nobody said so.
    let mut command = program();
    command.args(["scrub", "--data"]).arg(dir.path());
    let said = fails(command);
    assert!(said.contains("--packs"), "{said}");
    let mut command = program();
    command
        .args(["scrub", "--data"])
        .arg(dir.path().join("elsewhere"));
    assert!(fails(command).contains("no database"));
    let (code, report) = scrub(dir.path(), &bucket, &storage.endpoint);
    assert_eq!(code, Some(0), "{report}");
}
