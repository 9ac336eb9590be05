//! Tenants over HTTP: who is taken in, how much room each has, who leaves, and who attacks whom.

use crate::support::{Answer, Client, Node, TestServer, pack};
use backstop_protocol::{
    api::{self, AccountState, Appended, SessionOpened, SnapshotList},
    clock::{Clock as _, UnixMillis},
    id::{Network, PackId},
    problem::ProblemCode,
    quota::QuotaLevel,
    removal::{RemovalWord, SignedRemoval, Wish},
    session::SignedOpening,
};
use backstop_server::store::{Act, InviteToken, Office, Registration};
use std::{path::Path, time::Duration};

pub(crate) const DAY: u64 = 24 * 60 * 60 * 1000;

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

pub(crate) fn word(server: &TestServer, node: &Node, wish: Wish) -> RemovalWord {
    RemovalWord {
        wish,
        node: node.id(),
        network: Network::Regtest,
        server: server.key,
        asked_at: server.clock.now(),
    }
}

pub(crate) async fn ask(client: &mut Client, signed: &SignedRemoval) -> Answer {
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
