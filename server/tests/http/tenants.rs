//! Tenants over HTTP: who is taken in, how much room each has, who leaves, who asks too often, who attacks whom, and what
//! an operator hears and types.

use crate::{
    process::{Process, fails},
    support::{Answer, Client, Node, TestServer, pack},
};
use backstop_protocol::{
    api::{self, AccountState, Appended, SessionOpened, SnapshotList},
    clock::{Clock as _, UnixMillis},
    hash::hmac_sha256,
    id::{Network, PackId},
    problem::ProblemCode,
    quota::QuotaLevel,
    removal::{RemovalWord, SignedRemoval, Wish},
    session::SignedOpening,
};
use backstop_server::{
    Webhook,
    store::{Act, InviteToken, Office, Registration},
};
use serde_json::Value;
use std::{path::Path, process::Command, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

const DAY: u64 = 24 * 60 * 60 * 1000;

async fn office(server: &TestServer) -> Office {
    Office::of_file(&server.data.join("backstop.sqlite3"))
        .await
        .unwrap()
}

fn invited(signed: SignedOpening, invite: &str) -> SignedOpening {
    SignedOpening {
        invite: Some(invite.to_owned()),
        ..signed
    }
}

#[tokio::test]
async fn a_node_comes_with_an_invitation_and_every_refusal_is_the_same() {
    let server = TestServer::start_with(|config| config.registration = Registration::Invite).await;
    let token = InviteToken::new([7; 4], [7; 16]);
    let shown = token.shown();
    let mut office = office(&server).await;
    let invite = backstop_server::store::Invite {
        id: shown.id,
        hash: shown.hash,
        note: String::new(),
        quota: None,
        uses: 1,
        used: 0,
        created_at: server.clock.now(),
        expires_at: None,
        revoked_at: None,
    };
    office.act(&Act::Invite(invite)).await.unwrap();
    let (one, two) = (Node::new(1), Node::new(2));
    let opening = |node: &Node| node.signed(node.opening(&server, node.claim(0, 1)));
    let forged = InviteToken::new([7; 4], [8; 16]).expose();
    let mut refusals = Vec::new();
    for signed in [
        opening(&one),
        invited(opening(&one), &forged),
        invited(opening(&one), "backstop-invite-"),
        invited(opening(&one), &"x".repeat(api::INVITE_MAX)),
    ] {
        let problem = one.post(&server, &signed).await.problem();
        assert_eq!(problem.code, ProblemCode::RegistrationClosed);
        refusals.push(problem.detail);
    }
    let good = invited(opening(&one), &token.expose());
    one.post(&server, &good).await.json::<SessionOpened>();
    // Used up: the next one hears what all others do.
    let late = invited(opening(&two), &token.expose());
    let problem = two.post(&server, &late).await.problem();
    refusals.push(problem.detail);
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].contains("--invite"));
    let long = invited(opening(&two), &"x".repeat(api::INVITE_MAX + 1));
    assert_eq!(
        two.post(&server, &long).await.problem().code,
        ProblemCode::Malformed
    );
    // Who has an account comes back without one.
    let again = one.signed(one.opening(&server, one.claim(1, 2)));
    one.post(&server, &again).await.json::<SessionOpened>();
}

#[tokio::test]
async fn a_snapshot_larger_than_the_quota_is_refused_and_the_old_state_and_appends_are_untouched() {
    let server = TestServer::start_with(|config| config.quota.bytes = Some(20_000)).await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    client.append(1).await;
    client.put_pack(&[1, 2]).await;
    let commit = client.commit(1, None, &[1, 2], &[]);
    client
        .try_commit(&commit)
        .await
        .json::<backstop_protocol::api::SnapshotInfo>();
    let mut first = 3;
    let refused = loop {
        let chunks: Vec<u8> = (0..10).map(|chunk| first + chunk).collect();
        first += 10;
        let (id, bytes) = pack(&chunks);
        let answer = client.call("PUT", &format!("{}/{id}", api::PACKS), &bytes).await;
        if answer.status != 200 {
            break answer;
        }
    };
    let problem = refused.problem();
    assert_eq!(problem.code, ProblemCode::QuotaExceeded);
    assert!(problem.detail.contains("node quota"), "{}", problem.detail);
    let list: SnapshotList = client.call("GET", api::SNAPSHOTS, b"").await.json();
    assert_eq!(list.snapshots.len(), 1);
    let next = client.next(2);
    let appended: Appended = client.try_append(&next).await.json();
    assert!(
        appended
            .quota
            .is_some_and(|quota| quota.level >= QuotaLevel::Near)
    );
    client.head = appended.head;
    // Appends are the last thing that is refused, and what is there stays restorable.
    let mut end = None;
    for fill in 3..200 {
        let next = client.next(fill);
        let answer = client.try_append(&next).await;
        if answer.status != 200 {
            end = Some(answer.problem().code);
            break;
        }
        client.head = answer.json::<Appended>().head;
    }
    assert_eq!(end, Some(ProblemCode::QuotaExceeded));
    assert_eq!(client.log().await.len() as u64, client.head.seq);
}

fn word(server: &TestServer, node: &Node, wish: Wish) -> RemovalWord {
    RemovalWord {
        wish,
        node: node.id(),
        network: Network::Regtest,
        server: server.key,
        asked_at: server.clock.now(),
    }
}

async fn ask(client: &mut Client, signed: &SignedRemoval) -> Answer {
    let body = serde_json::to_vec(signed).unwrap();
    client.call("POST", api::REMOVAL, &body).await
}

#[tokio::test]
async fn an_owner_removes_the_backup_by_the_nodes_own_key_and_nobody_else_does() {
    let server = TestServer::start_with(|config| config.housekeeping_pause = Duration::from_millis(5)).await;
    let (node, thief) = (Node::new(1), Node::new(2));
    let mut client = node.first(&server).await;
    let mut others = thief.first(&server).await;
    client.append(1).await;
    others.append(1).await;
    client.put_pack(&[1, 2]).await;
    let good = SignedRemoval::sign(&word(&server, &node, Wish::Remove), &node.secret);
    // By another node's key; in another node's session; for another server; without a session; not at all.
    let foreign = SignedRemoval::sign(&word(&server, &node, Wish::Remove), &thief.secret);
    assert_eq!(
        ask(&mut client, &foreign).await.problem().code,
        ProblemCode::RemovalInvalid
    );
    assert_eq!(
        ask(&mut others, &good).await.problem().code,
        ProblemCode::RemovalInvalid
    );
    let elsewhere = RemovalWord {
        server: backstop_protocol::id::ServerKey([9; 32]),
        ..word(&server, &node, Wish::Remove)
    };
    let elsewhere = SignedRemoval::sign(&elsewhere, &node.secret);
    assert_eq!(
        ask(&mut client, &elsewhere).await.problem().code,
        ProblemCode::RemovalInvalid
    );
    let body = serde_json::to_vec(&good).unwrap();
    let bare = server.request("POST", api::REMOVAL, &body).await.problem();
    assert_eq!(bare.code, ProblemCode::Unauthenticated);
    let nonsense = client.call("POST", api::REMOVAL, b"{}").await.problem();
    assert_eq!(nonsense.code, ProblemCode::Malformed);
    assert_eq!(client.state().await.removal_at, None);
    // The owner, who thinks again, and again.
    let asked: AccountState = ask(&mut client, &good).await.json();
    assert_eq!(asked.removal_at, Some(UnixMillis(server.clock.now().0 + 7 * DAY)));
    let next = client.next(2);
    let appended: Appended = client.try_append(&next).await.json();
    assert_eq!(appended.removal_at, asked.removal_at);
    server.clock.advance(1);
    let keep = SignedRemoval::sign(&word(&server, &node, Wish::Keep), &node.secret);
    assert_eq!(
        ask(&mut client, &keep).await.json::<AccountState>().removal_at,
        None
    );
    let replayed = ask(&mut client, &good).await.problem();
    assert_eq!(replayed.code, ProblemCode::RemovalInvalid);
    server.clock.advance(1);
    let again = SignedRemoval::sign(&word(&server, &node, Wish::Remove), &node.secret);
    ask(&mut client, &again).await.json::<AccountState>();
    server.clock.advance(7 * DAY);
    let mut office = office(&server).await;
    for _ in 0..500 {
        if office.accounts().await.unwrap().len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(office.accounts().await.unwrap().len(), 1);
    assert_eq!(files_below(&server.data.join("packs")), 0);
    let mut others = thief
        .open(&server, thief.opening(&server, thief.claim(1, 2)))
        .await;
    assert_eq!(others.log().await.len(), 1);
    // Who comes again comes as a new node.
    let anew = node.first(&server).await;
    assert_eq!(anew.head.seq, 0);
}

fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

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

#[tokio::test]
async fn with_a_good_session_of_its_own_a_node_reaches_nothing_of_another() {
    let server = TestServer::start().await;
    let (victim, attacker) = (Node::new(1), Node::new(2));
    let mut good = victim.first(&server).await;
    good.append(1).await;
    let theirs = good.put_pack(&[1, 2]).await;
    let commit = good.commit(1, None, &[1, 2], &[]);
    good.try_commit(&commit)
        .await
        .json::<backstop_protocol::api::SnapshotInfo>();
    let before = good.state().await;
    let mut bad = attacker.first(&server).await;
    // What it sees of the other's things is what it sees of things that are nowhere.
    let nowhere = PackId([0xee; 32]);
    for (theirs, nobodys) in [
        (
            format!("{}/{theirs}", api::PACKS),
            format!("{}/{nowhere}", api::PACKS),
        ),
        (
            format!("{}/{}/manifest", api::SNAPSHOTS, commit_name(1)),
            format!("{}/{}/manifest", api::SNAPSHOTS, commit_name(9)),
        ),
    ] {
        let (theirs, nobodys) = (
            bad.call("GET", &theirs, b"").await,
            bad.call("GET", &nobodys, b"").await,
        );
        assert_eq!(theirs.problem().detail, nobodys.problem().detail);
    }
    let asked = [[1; 32], [0xee; 32]].concat();
    assert_eq!(bad.call("POST", api::LOCATE, &asked).await.octets(), [0, 0]);
    assert_eq!(
        bad.call("GET", &format!("{}?from=1", api::RECORDS), b"")
            .await
            .octets(),
        b""
    );
    assert_eq!(
        bad.call("GET", api::FILES, b"").await.problem().code,
        ProblemCode::NotFound
    );
    let borrowed = bad.commit(5, Some(1), &[], &[]);
    assert!(bad.try_commit(&borrowed).await.status >= 400);
    // Its own grant, key and signature for the other's account; the other's grant under its own key.
    let mut opening = attacker.opening(&server, attacker.claim(0, 1));
    opening.node = victim.id();
    assert_eq!(
        attacker.try_open(&server, opening.clone()).await.problem().code,
        ProblemCode::GrantInvalid
    );
    opening.grant = victim.opening(&server, victim.claim(0, 1)).grant;
    assert_eq!(
        attacker.try_open(&server, opening.clone()).await.problem().code,
        ProblemCode::GrantInvalid
    );
    // Without a grant it does not learn whether there is such a node.
    opening.grant = None;
    let here = attacker.try_open(&server, opening.clone()).await.problem();
    opening.node = Node::new(77).id();
    let not_here = attacker.try_open(&server, opening).await.problem();
    assert_eq!((here.code, here.detail), (not_here.code, not_here.detail));
    // The other's token with its own key, and its own token on the other's connection.
    let stolen = std::mem::replace(&mut bad.token, good.token.clone());
    let (header, _) = bad.authorize("GET", api::HEAD, b"");
    let answer = bad
        .connection
        .request("GET", api::HEAD, &[("authorization", &header)], b"")
        .await;
    assert_eq!(answer.problem().code, ProblemCode::BadMac);
    bad.token = stolen;
    assert_eq!(
        good.state().await,
        AccountState {
            time: before.time,
            ..before
        }
    );
}

fn commit_name(name: u8) -> backstop_protocol::id::SnapshotId {
    backstop_protocol::id::SnapshotId([name; 16])
}

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

fn typed(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop-server"));
    command.args(words).arg("--data").arg(data);
    command
}

fn json(data: &Path, words: &[&str]) -> Value {
    let said = typed(data, words).arg("--json").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    serde_json::from_slice(&said.stdout).unwrap()
}

#[tokio::test]
async fn an_operator_looks_after_nodes_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let node = Node::new(1);
    let id = node.id().to_string();
    let mut client = node.first(&process.place).await;
    client.append(1).await;
    let data = dir.path();
    let listed = json(data, &["node", "list"]);
    assert_eq!(listed["nodes"][0]["node"], id.as_str());
    assert_eq!(listed["nodes"][0]["seq"], 1);
    assert_eq!(json(data, &["node", "show", &id])["quota"], Value::Null);
    assert_eq!(json(data, &["node", "quota", &id, "1MiB"])["quota"], 1 << 20);
    assert_eq!(client.state().await.quota.unwrap().bytes, 1 << 20);
    assert_eq!(json(data, &["node", "quota", &id, "none"])["unlimited"], true);
    assert_eq!(client.state().await.quota, None);
    json(data, &["node", "quota", &id, "default"]);
    assert_eq!(json(data, &["node", "remove", &id])["removal_by"], "operator");
    assert!(client.state().await.removal_at.is_some());
    assert_eq!(json(data, &["node", "restore", &id])["removal_at"], Value::Null);
    assert_eq!(client.state().await.removal_at, None);
    assert_eq!(json(data, &["node", "rollup", &id])["roll_up_ordered"], true);
    let other = Node::new(2).id().to_string();
    json(
        data,
        &[
            "node",
            "allow",
            &other,
            "--network",
            "regtest",
            "--with-quota",
            "5G",
        ],
    );
    assert_eq!(json(data, &["node", "list"])["allowed"][0]["quota"], 5_u64 << 30);
    json(data, &["node", "allow", &other, "--network", "regtest", "--undo"]);
    let said = fails(typed(data, &["node", "remove", &other]));
    assert!(
        said.contains("no node") && said.contains("backstop status"),
        "{said}"
    );
    let made = json(data, &["invite", "create", "--uses", "2", "--note", "Ann"]);
    let text = made["invite"].as_str().unwrap();
    let token = InviteToken::read(text).unwrap();
    assert_eq!(made["name"], token.id().to_string().as_str());
    let invites = json(data, &["invite", "list"]);
    assert_eq!(
        (&invites[0]["note"], &invites[0]["open"]),
        (&"Ann".into(), &true.into())
    );
    assert_eq!(invites[0].get("invite"), None);
    let revoked = json(data, &["invite", "revoke", &token.id().to_string()]);
    assert_eq!(revoked["open"], false);
    let said = fails(typed(data, &["invite", "revoke", "00000000"]));
    assert!(said.contains("no invitation 00000000"), "{said}");
    // The roll-up that was ordered is asked for; nothing else is different.
    let next = client.next(2);
    let appended: Appended = client.try_append(&next).await.json();
    assert_eq!((appended.roll_up, appended.head.seq), (true, 2));
}
