//! The operator's page: who sees it and where, and what it says of many nodes.

use crate::{
    process::{command, fails},
    support::{Browser, Node, TestServer, plain_get},
    tenants::DAY,
};
use backstop_protocol::{
    api::{self, ProofReport},
    problem::ProblemCode,
};
use backstop_server::{AdminToken, Config};
use std::{
    fs::{self, Permissions},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
};

const TOKEN: &str = "correct horse battery staple";

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn with_fleet(config: &mut Config) {
    config.metrics = Some(LOCAL);
    config.web_admin = Some(AdminToken::new(TOKEN.as_bytes()).unwrap());
}

/// The operator's browser, at the listener of the metrics.
async fn operator(server: &TestServer) -> Browser {
    let mut browser = Browser::at(server.metrics.unwrap());
    browser.get("/fleet").await.says(200, "Admin token");
    let answer = browser.post("/fleet-login", &[("token", TOKEN)]).await;
    assert_eq!(
        (answer.status, answer.headers["location"].as_str()),
        (303, "fleet")
    );
    browser
}

#[tokio::test]
async fn the_fleet_is_shown_beside_the_metrics_to_whoever_has_the_token_and_nowhere_else() {
    let server = TestServer::start_with(with_fleet).await;
    Node::new(1).first(&server).await;
    let id = Node::new(1).id().to_string();
    let mut browser = operator(&server).await;
    browser.get("/fleet").await.says(200, &id);
    // Not where nodes call, whatever is shown there.
    let mut outside = Browser::at(server.addr);
    outside.cookies = browser.cookies.clone();
    outside.get("/fleet").await.refused(ProblemCode::NotFound);
    outside.get("/backup").await.says(403, "not logged in");
    // An owner's pass shows him nothing here.
    let mut owner = Browser::at(server.addr);
    owner.log_in(&Node::new(1)).await;
    let pass = owner.cookies["backstop-owner"].clone();
    let mut owner = Browser::at(server.metrics.unwrap());
    for name in ["backstop-owner", "backstop-operator"] {
        owner.cookies.insert(name.to_owned(), pass.clone());
    }
    let page = owner.get("/fleet").await.says(200, "Admin token");
    assert!(!page.contains(&id));
    // What is beside it is as it was.
    assert_eq!(plain_get(server.metrics.unwrap(), "/health").await.0, 200);
}

#[tokio::test]
async fn without_a_token_in_the_configuration_there_is_no_fleet() {
    let server = TestServer::start_with(|config| config.metrics = Some(LOCAL)).await;
    for path in ["/fleet", "/fleet-login", "/style.css"] {
        assert_eq!(plain_get(server.metrics.unwrap(), path).await.0, 404);
    }
}

#[tokio::test]
async fn a_wrong_token_shows_nothing_and_cannot_be_tried_often() {
    let server = TestServer::start_with(with_fleet).await;
    let mut browser = Browser::at(server.metrics.unwrap());
    let mut tries = 0;
    let refused = loop {
        let answer = browser
            .post("/fleet-login", &[("token", "incorrect horse battery staple")])
            .await;
        assert!(browser.cookies.is_empty());
        if answer.status != 403 {
            break answer;
        }
        answer.says(403, "not the admin token");
        tries += 1;
    };
    refused.says(429, "Too many requests");
    assert!((10..=60).contains(&tries), "{tries}");
    // The right one has to wait too, and then counts.
    server.clock.advance(60_000);
    operator(&server).await;
}

#[tokio::test]
async fn the_operators_visit_ends_like_an_owners_and_with_the_token() {
    let server = TestServer::start_with(with_fleet).await;
    let mut browser = operator(&server).await;
    let mut copy = browser.clone();
    browser.post("/fleet-logout", &[]).await;
    copy.get("/fleet").await.says(200, "Admin token");
    let mut browser = operator(&server).await;
    server.clock.advance(3_600_000);
    browser.get("/fleet").await.says(200, "Admin token");
    let browser = operator(&server).await;
    let server = server
        .restart_with(|config| {
            config.metrics = Some(LOCAL);
            config.web_admin = Some(AdminToken::new(b"another horse battery staple").unwrap());
        })
        .await;
    let mut after = Browser::at(server.metrics.unwrap());
    after.cookies = browser.cookies;
    after.get("/fleet").await.says(200, "Admin token");
}

#[tokio::test]
async fn nodes_in_trouble_come_first_and_all_are_summed_up() {
    let server = TestServer::start_with(|config| {
        with_fleet(config);
        config.quota.bytes = Some(2500);
    })
    .await;
    let (silent, held, near, fine) = (Node::new(1), Node::new(2), Node::new(3), Node::new(4));
    silent.first(&server).await.append(1).await;
    server.clock.advance(2 * DAY);
    let mut client = held.first(&server).await;
    client.append(1).await;
    let report = serde_json::to_vec(&ProofReport { seq: 1, equal: false }).unwrap();
    assert_eq!(client.call("POST", api::PROOFS, &report).await.status, 200);
    let mut client = near.first(&server).await;
    for fill in 1..=6 {
        let next = client.next(fill);
        client.head = client.try_append(&next).await.json::<api::Appended>().head;
    }
    fine.first(&server).await.append(1).await;
    let mut browser = operator(&server).await;
    let page = browser.get("/fleet").await.page();
    let place = |node: &Node| page.find(&format!("title=\"{}\"", node.id())).unwrap();
    let places = [place(&held), place(&silent), place(&near), place(&fine)];
    assert!(places.is_sorted(), "{page}");
    for shown in [
        "<dt>Nodes</dt><dd>4</dd>",
        "<dt>In trouble</dt><dd>2</dd>",
        "<dt>To look at</dt><dd>1</dd>",
        "held: a proof failed",
        "silent for 2 days",
        "near its quota",
        "backed up",
        "2.1 KiB of 2.4 KiB",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
}

#[tokio::test]
async fn a_large_fleet_is_shown_page_by_page() {
    let server = TestServer::start_with(with_fleet).await;
    for byte in 1..=120 {
        Node::new(byte).first(&server).await;
    }
    let mut browser = operator(&server).await;
    let mut seen = std::collections::BTreeSet::new();
    for (page, rows) in [(1, 100), (2, 20), (3, 0)] {
        let text = browser.get(&format!("/fleet?page={page}")).await.page();
        let nodes: Vec<_> = text
            .split("class=\"id\" title=\"")
            .skip(1)
            .map(|rest| rest[..66].to_owned())
            .collect();
        assert_eq!(nodes.len(), rows);
        seen.extend(nodes);
        assert_eq!(text.contains("rel=\"next\""), page == 1);
        assert_eq!(text.contains("rel=\"prev\""), page > 1);
    }
    assert_eq!(seen.len(), 120);
    for part in ["page=0", "page=18446744073709551615", "page=1&x=2"] {
        assert_eq!(browser.get(&format!("/fleet?{part}")).await.status, 200);
    }
    browser.get("/fleet?page=x").await.says(400, "not understood");
}

#[test]
fn the_token_is_read_from_a_file_that_nobody_else_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let serve = |metrics: bool| {
        let mut command = command(&dir.path().join("data"));
        command.arg("--web-admin-token").arg(&file);
        if metrics {
            command.args(["--metrics", "127.0.0.1:0"]);
        }
        fails(command)
    };
    assert!(serve(true).contains("--web-admin-token"));
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert!(serve(true).contains("chmod 600"));
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(serve(false).contains("needs --metrics"));
    fs::write(&file, "short").unwrap();
    let said = serve(true);
    assert!(
        said.contains("16 to 256 bytes") && !said.contains("short"),
        "{said}"
    );
}
