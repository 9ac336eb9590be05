//! Opening sessions: grants, claims, takeovers.

use crate::support::{Node, TestServer};
use backstop_protocol::{
    api::{self, KnownGrants, SessionOpened},
    grant::{Grant, Scope, SignedGrant},
    head::Head,
    id::{InstanceId, Network, RunId},
    problem::ProblemCode,
    session::{IdentitySecret, Opening, SignedOpening, WriterClaim},
};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

#[tokio::test]
async fn an_opening_makes_the_account_and_says_how_it_stands() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let opening = node.opening(&server, node.claim(0, 3));
    let opened: SessionOpened = node.try_open(&server, opening).await.json();
    assert_eq!(
        (opened.account.node, opened.account.network),
        (node.id(), Network::Regtest)
    );
    assert_eq!((opened.account.epoch, opened.account.head), (3, Head::EMPTY));
    assert_eq!(opened.account.writer_since, Some(opened.account.time));
}

#[tokio::test]
async fn a_replayed_opening_gives_the_same_session_and_changes_nothing() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    client.append(1).await;
    let before = client.state().await;
    let replayed = node.signed(node.opening(&server, node.claim(0, 1)));
    for _ in 0..3 {
        let opened: SessionOpened = node.post(&server, &replayed).await.json();
        assert_eq!(opened.account, before);
    }
    client.append(2).await;
}

#[tokio::test]
async fn an_opening_replayed_after_another_run_opened_is_refused() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let replayed = node.signed(node.opening(&server, node.claim(0, 1)));
    node.post(&server, &replayed).await;
    node.open(&server, node.opening(&server, node.claim(1, 2))).await;
    let problem = node
        .post(&server, &replayed)
        .await
        .refused(ProblemCode::EpochMismatch);
    assert_eq!((problem.epoch, problem.head), (Some(2), Some(Head::EMPTY)));
    assert!(problem.since.is_some());
}

#[tokio::test]
async fn an_opening_that_is_not_signed_by_its_key_is_refused_without_a_mac() {
    let server = TestServer::start().await;
    let (node, thief) = (Node::new(1), Node::new(2));
    let good = node.signed(node.opening(&server, node.claim(0, 1)));
    let mut flipped = good.clone();
    flipped.signature[40] ^= 1;
    let mut other_epoch = good.clone();
    other_epoch.opening.writer = Some(node.claim(0, 9));
    let stolen = SignedOpening {
        signature: thief.signed(good.opening.clone()).signature,
        ..good.clone()
    };
    let mut read_with_claim = good.opening.clone();
    read_with_claim.scope = Scope::Read;
    let mut append_without = good.opening.clone();
    append_without.writer = None;
    for signed in [
        flipped,
        other_epoch,
        stolen,
        node.signed(read_with_claim),
        node.signed(append_without),
    ] {
        let body = serde_json::to_vec(&signed).unwrap();
        let answer = server.request("POST", api::SESSIONS, &body).await;
        answer.refused(ProblemCode::BadOpening);
        assert_eq!(answer.mac(), None);
    }
}

#[tokio::test]
async fn an_opening_for_another_server_is_refused() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let other = IdentitySecret::from_bytes(&[9; 32]).unwrap().server_key();
    let opening = Opening {
        server: other,
        ..node.opening(&server, node.claim(0, 1))
    };
    node.try_open(&server, opening)
        .await
        .refused(ProblemCode::BadOpening);
}

#[tokio::test]
async fn an_opening_that_is_no_json_of_its_form_is_malformed() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let good = serde_json::to_string(&node.signed(node.opening(&server, node.claim(0, 1)))).unwrap();
    let wrong = [
        String::new(),
        "[]".to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("{good} {good}"),
        good.replacen("\"scope\"", "\"scope\":\"append\",\"scope\"", 1),
        good.replacen("\"scope\"", "\"surprise\":1,\"scope\"", 1),
        good.replacen("\"append\"", "\"own\"", 1),
        good.replacen("\"regtest\"", "\"mars\"", 1),
        good.replacen("\"epoch\":1", "\"epoch\":-1", 1),
        good.replacen(&node.id().to_string(), &node.id().to_string().to_uppercase(), 1),
    ];
    for body in wrong {
        let answer = server.request("POST", api::SESSIONS, body.as_bytes()).await;
        answer.refused(ProblemCode::Malformed);
    }
}

#[tokio::test]
async fn a_grant_must_be_signed_by_the_node_for_this_node_network_and_key() {
    let server = TestServer::start().await;
    let (node, other) = (Node::new(1), Node::new(2));
    let with = |grant: Grant, by: &Node| Opening {
        grant: Some(SignedGrant::sign(&grant, &by.secret)),
        ..node.opening(&server, node.claim(0, 1))
    };
    let mut no_grant_at_all = node.opening(&server, node.claim(0, 1));
    no_grant_at_all.grant = Some(SignedGrant {
        text: "Backstop login".to_owned(),
        signature: "y".repeat(104),
    });
    let wrong = [
        with(node.grant(), &other),
        with(other.grant(), &other),
        with(
            Grant {
                network: Network::Bitcoin,
                ..node.grant()
            },
            &node,
        ),
        with(
            Grant {
                access_key: other.access.access_key(),
                ..node.grant()
            },
            &node,
        ),
        no_grant_at_all,
    ];
    for opening in wrong {
        node.try_open(&server, opening)
            .await
            .refused(ProblemCode::GrantInvalid);
    }
    let read = node.try_open(&server, node.read_opening(&server)).await;
    read.refused(ProblemCode::GrantMissing);
}

#[tokio::test]
async fn expired_narrow_and_revoked_grants_are_refused_by_name() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let with = |grant: Grant, epochs: (u64, u64)| Opening {
        grant: Some(SignedGrant::sign(&grant, &node.secret)),
        ..node.opening(&server, node.claim(epochs.0, epochs.1))
    };
    let expired = with(
        Grant {
            expires_at: Some(1_000),
            ..node.grant()
        },
        (0, 1),
    );
    node.try_open(&server, expired)
        .await
        .refused(ProblemCode::GrantExpired);
    let narrow = with(
        Grant {
            scope: Scope::Read,
            ..node.grant()
        },
        (0, 1),
    );
    node.try_open(&server, narrow)
        .await
        .refused(ProblemCode::ScopeInsufficient);
    node.first(&server).await;
    let file = SqliteConnectOptions::new().filename(server.data.join("backstop.sqlite3"));
    let mut connection = file.connect().await.unwrap();
    sqlx::query("UPDATE accounts SET grant_floor = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let shown = node.opening(&server, node.claim(1, 2));
    node.try_open(&server, shown)
        .await
        .refused(ProblemCode::GrantRevoked);
    let remembered = node.read_opening(&server);
    node.try_open(&server, remembered)
        .await
        .refused(ProblemCode::GrantRevoked);
    node.open(
        &server,
        with(
            Grant {
                serial: 2,
                ..node.grant()
            },
            (1, 2),
        ),
    )
    .await;
}

#[tokio::test]
async fn with_the_access_key_alone_a_node_finds_its_grant_and_reads_its_backup() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut writer = node.first(&server).await;
    let record = writer.append(1).await;
    let path = format!("{}/{}", api::GRANTS, node.access.access_key());
    let known: KnownGrants = server.request("GET", &path, b"").await.json();
    let grants: Vec<_> = known
        .grants
        .iter()
        .map(|signed| signed.verify().unwrap())
        .collect();
    assert_eq!(grants, [node.grant()]);
    let mut reader = node.open(&server, node.read_opening(&server)).await;
    assert_eq!(reader.log().await, [record]);
    let other = format!("{}/{}", api::GRANTS, Node::new(2).access.access_key());
    let unknown: KnownGrants = server.request("GET", &other, b"").await.json();
    assert_eq!(unknown.grants, []);
}

#[tokio::test]
async fn a_grant_to_append_opens_an_account_that_is_not_there_for_reading_too() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let opening = Opening {
        scope: Scope::Read,
        writer: None,
        ..node.opening(&server, node.claim(0, 1))
    };
    let opened: SessionOpened = node.try_open(&server, opening).await.json();
    assert_eq!(opened.account.head, Head::EMPTY);
    assert_eq!(opened.account.epoch, 0);
}

#[tokio::test]
async fn another_instance_is_refused_until_it_takes_over_and_then_the_old_one_is() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut old = node.first(&server).await;
    old.append(1).await;
    let claim = WriterClaim {
        instance: InstanceId([99; 16]),
        run: RunId([98; 16]),
        ..node.claim(1, 2)
    };
    let refused = node.try_open(&server, node.opening(&server, claim)).await;
    let problem = refused.refused(ProblemCode::OtherInstance);
    assert_eq!(problem.epoch, Some(1));
    assert!(problem.since.is_some());
    let takeover = WriterClaim {
        takeover: true,
        ..claim
    };
    let mut new = node.open(&server, node.opening(&server, takeover)).await;
    let late = old.next(2);
    let problem = old.try_append(&late).await.refused(ProblemCode::Fenced);
    assert_eq!(problem.epoch, Some(2));
    assert!(problem.since.is_some());
    new.append(2).await;
    // It stays refused after restarts, whatever epoch it believes in.
    for (expected, epoch) in [(1, 2), (1, 3), (2, 3)] {
        let restarted = node.opening(&server, node.claim(expected, epoch));
        node.try_open(&server, restarted)
            .await
            .refused(ProblemCode::OtherInstance);
    }
}

#[tokio::test]
async fn an_epoch_that_is_not_raised_or_out_of_range_is_malformed() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    for epoch in [0, 1 << 63, u64::MAX] {
        let claim = WriterClaim {
            epoch,
            ..node.claim(0, 1)
        };
        node.try_open(&server, node.opening(&server, claim))
            .await
            .refused(ProblemCode::Malformed);
    }
}

#[tokio::test]
async fn sessions_and_grants_outlive_a_restart() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    client.append(1).await;
    let key = server.key;
    let server = server.restart().await;
    assert_eq!(server.key, key);
    client.connection = server.connect().await;
    client.append(2).await;
    node.open(&server, node.read_opening(&server)).await;
}
