//! The pages of nodes' owners: who sees what, and what no page does.

use crate::{
    process::Process,
    support::{Answer, Browser, Client, Cluster, Connection, Node, TestServer, text_to_sign},
    tenants::DAY,
    tls,
};
use backstop_protocol::{
    api::{self, ProofReport},
    grant::{Scope, SignedGrant},
    problem::ProblemCode,
    session::Opening,
    signmessage,
};
use std::net::{Ipv4Addr, SocketAddr};

/// A server with one node that has written three records and a snapshot.
async fn with_backup(change: impl FnOnce(&mut backstop_server::Config)) -> (TestServer, Node, Client) {
    let server = TestServer::start_with(change).await;
    let node = Node::new(1);
    let mut client = node.first(&server).await;
    for fill in 1..=3 {
        client.append(fill).await;
        server.clock.advance(60_000);
    }
    client.put_pack(&[1, 2]).await;
    let commit = client.commit(1, None, &[1, 2], &[]);
    assert_eq!(client.try_commit(&commit).await.status, 200);
    (server, node, client)
}

async fn backup() -> (TestServer, Node, Client) {
    with_backup(|_| ()).await
}

/// What every answer of a page carries, whatever it is.
fn check(answer: &Answer) {
    let header = |name: &str| answer.headers.get(name).map(String::as_str).unwrap_or_default();
    let policy = header("content-security-policy");
    for part in [
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && !policy.contains("script"),
        "{policy}"
    );
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert!(header("permissions-policy").contains("camera=()"));
    assert!(!header("cache-control").is_empty());
    if header("content-type").starts_with("text/html") {
        assert_eq!(header("cache-control"), "no-store");
        let page = answer.page();
        for none in [
            "<script",
            "style=",
            " onclick",
            " onload",
            "javascript:",
            "http://",
            "https://",
            "src=",
        ] {
            assert!(!page.contains(none), "{none} in {page}");
        }
        for some in [
            "<html lang=\"en\">",
            "<main id=\"main\">",
            "<h1>",
            "name=\"viewport\"",
            "<title>",
        ] {
            assert!(page.contains(some), "{some} is not in {page}");
        }
    }
}

#[tokio::test]
async fn an_owner_logs_in_by_his_nodes_signature_and_sees_his_backup() {
    let (server, node, mut client) = backup().await;
    let report = ProofReport { seq: 2, equal: true };
    let report = serde_json::to_vec(&report).unwrap();
    assert_eq!(client.call("POST", api::PROOFS, &report).await.status, 200);
    let mut browser = Browser::at(server.addr);
    browser.get("/").await.says(200, "Node id");
    browser.log_in(&node).await;
    let page = browser
        .get("/backup")
        .await
        .says(200, "Your node is backed up here");
    for shown in [
        &node.id().to_string(),
        "3 of epoch 1",
        "equal, ",
        "Records 1 to 3 are here",
        "<svg",
        "append: the node's plugin",
        &node.access.access_key().to_string(),
        "without a quota",
    ] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    // Whoever is logged in is led to it.
    assert_eq!(browser.get("/").await.headers["location"], "backup");
}

#[tokio::test]
async fn every_page_keeps_a_browser_from_anything_but_itself() {
    let (server, node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    let mut answers = vec![
        browser.get("/").await,
        browser.get("/backup").await,
        browser.get("/login").await,
        browser.get("/style.css").await,
        browser.get("/icon.svg").await,
        browser.ask("DELETE", "/backup", "").await,
        browser
            .post("/login", &[("node", "no"), ("network", "regtest")])
            .await,
        browser.post("/login", &[("other", "no")]).await,
        browser
            .post("/proof", &[("text", "no"), ("signature", "no")])
            .await,
        browser
            .post(
                "/login",
                &[("node", &node.id().to_string()), ("network", "regtest")],
            )
            .await,
    ];
    let text = browser.begin(&node).await;
    answers.push(browser.prove(&text, &Node::new(2)).await);
    answers.push(browser.prove(&text, &node).await);
    answers.push(browser.get("/backup").await);
    answers.push(browser.post("/logout", &[]).await);
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(
        statuses,
        [
            200, 403, 303, 200, 200, 405, 422, 400, 400, 200, 422, 303, 200, 303
        ]
    );
    answers.iter().for_each(check);
}

#[tokio::test]
async fn a_login_that_leaked_counts_in_no_other_browser_and_in_its_own_once() {
    let (server, node, _client) = backup().await;
    let (mut browser, mut thief) = (Browser::at(server.addr), Browser::at(server.addr));
    let text = browser.begin(&node).await;
    thief
        .prove(&text, &node)
        .await
        .says(403, "belongs to another browser");
    // Nor in one that began a login of its own, for whichever node.
    for other in [&node, &Node::new(2)] {
        thief.begin(other).await;
        thief
            .prove(&text, &node)
            .await
            .says(403, "belongs to another browser");
    }
    let before = browser.cookies.clone();
    assert_eq!(browser.prove(&text, &node).await.status, 303);
    let mut again = Browser::at(server.addr);
    again.cookies = before;
    again.prove(&text, &node).await.says(403, "used before");
    again.get("/backup").await.says(403, "not logged in");
}

#[tokio::test]
async fn a_login_expires_and_cannot_be_given_more_time() {
    let (server, node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    let text = browser.begin(&node).await;
    server.clock.advance(601_000);
    browser
        .prove(&text, &node)
        .await
        .says(403, "That login has expired");
    let (begin, expires) = text.rsplit_once(' ').unwrap();
    let later = format!("{begin} {}", expires.parse::<u64>().unwrap() + 6000);
    browser
        .prove(&later, &node)
        .await
        .says(403, "belongs to another browser");
}

#[tokio::test]
async fn a_signature_that_does_not_fit_says_so_and_the_right_one_still_counts() {
    let (server, node, _client) = backup().await;
    let (other, mut browser) = (Node::new(2), Browser::at(server.addr));
    let text = browser.begin(&node).await;
    let page = browser.prove(&text, &other).await.says(422, "not your node");
    assert!(page.contains(&other.id().to_string()) && page.contains(&text));
    let mut paste = async |signature: &str| {
        browser
            .post("/proof", &[("text", &text), ("signature", signature)])
            .await
    };
    paste("").await.says(422, "There is no signature");
    paste("lightning-cli: Could not connect")
        .await
        .says(422, "There is no signature");
    paste(&"9".repeat(104)).await.says(422, "it is none");
    let zbase = signmessage::sign(&text, &node.secret);
    assert_eq!(paste(&zbase).await.status, 303);
}

#[tokio::test]
async fn nobody_learns_of_a_node_before_he_proved_to_have_its_key() {
    let (server, node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    let stranger = Node::new(9);
    let mut shapes = Vec::new();
    for node in [&node, &stranger] {
        let id = node.id().to_string();
        let page = browser
            .post("/login", &[("node", &id), ("network", "regtest")])
            .await
            .page();
        let text = text_to_sign(&page);
        let wrong = browser
            .prove(&text, &Node::new(8))
            .await
            .says(422, "not your node");
        shapes.push([page, wrong].map(|page| page.len()));
    }
    assert_eq!(shapes[0], shapes[1]);
    let text = browser.begin(&stranger).await;
    browser
        .prove(&text, &stranger)
        .await
        .says(404, "No backup of this node is here");
    // On another network it has none either.
    let id = node.id().to_string();
    let page = browser
        .post("/login", &[("node", &id), ("network", "bitcoin")])
        .await
        .says(200, "lightning-cli signmessage");
    let text = text_to_sign(&page);
    browser.prove(&text, &node).await.says(404, "on bitcoin");
}

#[tokio::test]
async fn what_a_node_signed_for_another_purpose_is_no_login() {
    let (server, node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    browser.begin(&node).await;
    let SignedGrant { text, .. } = SignedGrant::sign(&node.grant(), &node.secret);
    browser.prove(&text, &node).await.says(400, "not understood");
}

#[tokio::test]
async fn an_owner_sees_his_own_node_and_a_cookie_that_was_changed_shows_none() {
    let (server, one, _client) = backup().await;
    let two = Node::new(2);
    two.first(&server).await;
    let mut browser = Browser::at(server.addr);
    browser.log_in(&two).await;
    let page = browser.get("/backup").await.says(200, "No backup has come yet");
    assert!(page.contains(&two.id().to_string()) && !page.contains(&one.id().to_string()));
    let cookie = browser.cookies["backstop-owner"].clone();
    for at in 0..cookie.len() {
        let mut changed = cookie.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).unwrap();
        browser.cookies.insert("backstop-owner".to_owned(), changed);
        browser.get("/backup").await.says(403, "not logged in");
    }
    // An operator's name for it makes no operator's of it.
    browser.cookies.insert("backstop-owner".to_owned(), cookie);
    browser.get("/backup").await.says(200, "Your backup");
}

#[tokio::test]
async fn a_visit_ends_after_an_hour_or_when_it_is_ended_also_for_a_copy_of_its_cookie() {
    let (server, node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    browser.log_in(&node).await;
    let mut copy = browser.clone();
    assert_eq!(browser.post("/logout", &[]).await.headers["location"], "./");
    assert!(browser.cookies.is_empty());
    copy.get("/backup").await.says(403, "not logged in");
    browser.log_in(&node).await;
    server.clock.advance(3_599_999);
    assert_eq!(browser.get("/backup").await.status, 200);
    server.clock.advance(1);
    browser
        .get("/backup")
        .await
        .says(403, "the hour for which that counts is over");
}

#[tokio::test]
async fn nothing_that_is_typed_becomes_part_of_a_page() {
    let (server, _node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    let hostile = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";
    for fields in [
        [("node", hostile), ("network", "regtest")],
        [("node", hostile), ("network", hostile)],
        [("text", hostile), ("signature", hostile)],
    ] {
        for path in ["/login", "/proof"] {
            let answer = browser.post(path, &fields).await;
            assert!((400..500).contains(&answer.status));
            check(&answer);
        }
    }
    let long = "a".repeat(20 << 10);
    browser
        .post("/login", &[("node", &long), ("network", "regtest")])
        .await
        .says(400, "not understood");
}

#[tokio::test]
async fn what_another_site_sends_does_nothing() {
    let (server, node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    browser.log_in(&node).await;
    for site in ["cross-site", "same-site"] {
        let mut led = browser.clone();
        led.headers.push(("sec-fetch-site", site.to_owned()));
        led.post("/logout", &[]).await.says(403, "Nothing was done");
        led.post(
            "/login",
            &[("node", &node.id().to_string()), ("network", "regtest")],
        )
        .await
        .says(403, "Not from here");
    }
    browser.headers.push(("sec-fetch-site", "same-origin".to_owned()));
    assert_eq!(browser.get("/backup").await.status, 200);
    assert_eq!(browser.post("/logout", &[]).await.status, 303);
}

#[tokio::test]
async fn looking_changes_nothing() {
    let (server, node, mut client) = backup().await;
    let before = client.state().await;
    let mut browser = Browser::at(server.addr);
    browser.log_in(&node).await;
    for path in ["/", "/backup", "/login", "/proof", "/logout", "/style.css"] {
        browser.get(path).await;
    }
    // Neither the login nor what is given for it opens anything of the API.
    let pass = browser.cookies["backstop-owner"].clone();
    browser
        .headers
        .push(("authorization", format!("Backstop {pass} 1 {}", "00".repeat(32))));
    browser
        .ask("POST", api::REMOVAL, "")
        .await
        .refused(ProblemCode::Unauthenticated);
    assert_eq!(client.state().await, before);
}

#[tokio::test]
async fn beside_the_pages_the_api_is_as_it_was() {
    let (server, _node, _client) = backup().await;
    let mut browser = Browser::at(server.addr);
    browser.get("/elsewhere").await.refused(ProblemCode::NotFound);
    browser
        .ask("DELETE", api::HEALTH, "")
        .await
        .refused(ProblemCode::MethodNotAllowed);
    assert!(
        !browser
            .get(api::HEALTH)
            .await
            .headers
            .contains_key("content-security-policy")
    );
    let server = TestServer::start_with(|config| config.web = false).await;
    let mut browser = Browser::at(server.addr);
    for path in ["/", "/login", "/backup", "/style.css"] {
        browser.get(path).await.refused(ProblemCode::NotFound);
    }
}

#[tokio::test]
async fn a_head_has_the_headers_and_nothing_else() {
    let (server, _node, _client) = backup().await;
    let mut connection = Connection::open(server.addr).await;
    connection
        .send(b"HEAD / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .await;
    let mut lines = String::new();
    loop {
        let line = connection.line().await;
        if line.is_empty() {
            break;
        }
        lines.push_str(&line);
    }
    assert!(
        lines.starts_with("HTTP/1.1 200") && lines.contains("content-security-policy"),
        "{lines}"
    );
    assert!(lines.ends_with("\r\n\r\n") && !lines.contains("<html"), "{lines}");
}

#[tokio::test]
async fn strangers_share_a_limit_and_whoever_is_logged_in_has_his_nodes() {
    let (server, node, _client) = with_backup(|config| config.rates.everyone = 3).await;
    let mut browser = Browser::at(server.addr);
    browser.log_in(&node).await;
    let mut stranger = Browser::at(server.addr);
    let refused = loop {
        let answer = stranger.get("/").await;
        if answer.status != 200 {
            break answer;
        }
    };
    refused.says(429, "Too many requests");
    assert!(refused.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    check(&refused);
    browser.get("/backup").await.says(200, "Your backup");
}

#[tokio::test]
async fn behind_tls_cookies_are_for_this_host_over_tls_alone() {
    let dir = tempfile::tempdir().unwrap();
    let files = tls::files(dir.path());
    let certificate = tls::write(&files);
    let server = TestServer::start_with(|config| config.tls = Some(files)).await;
    let stream = tls::connect(server.addr, &certificate, &[b"http/1.1"])
        .await
        .unwrap();
    let id = Node::new(1).id();
    let form = format!("node={id}&network=regtest");
    let answer = Connection::over(stream)
        .request("POST", "/login", &[], form.as_bytes())
        .await;
    let secure = |cookies: &[String]| {
        assert_eq!(cookies.len(), 1);
        assert!(cookies[0].starts_with("__Host-backstop-login="), "{cookies:?}");
        for attribute in [
            "Path=/;",
            "HttpOnly;",
            "SameSite=Strict;",
            "Max-Age=600;",
            "Secure",
        ] {
            assert!(cookies[0].contains(attribute), "{cookies:?}");
        }
    };
    secure(&answer.cookies);
    // The same where a proxy that is trusted says that it speaks TLS.
    let local: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = TestServer::start_with(|config| {
        config.listen = local;
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let mut connection = server.connect().await;
    let answer = connection
        .request(
            "POST",
            "/login",
            &[("x-forwarded-proto", "https")],
            form.as_bytes(),
        )
        .await;
    secure(&answer.cookies);
    let answer = connection
        .request(
            "POST",
            "/login",
            &[("x-forwarded-proto", "http")],
            form.as_bytes(),
        )
        .await;
    assert!(answer.cookies[0].starts_with("backstop-login=") && !answer.cookies[0].contains("Secure"));
}

#[tokio::test]
async fn what_is_the_matter_is_said_first_with_what_to_do() {
    let (server, node, mut client) = with_backup(|config| config.quota.bytes = Some(1 << 20)).await;
    let mut browser = Browser::at(server.addr);
    browser.log_in(&node).await;
    let page = browser.get("/backup").await.says(200, "Quota: ");
    assert!(page.contains("<meter") && page.contains("there is room"));
    let report = serde_json::to_vec(&ProofReport { seq: 3, equal: false }).unwrap();
    assert_eq!(client.call("POST", api::PROOFS, &report).await.status, 200);
    let page = browser
        .get("/backup")
        .await
        .says(200, "differs from its database");
    assert!(page.contains("<span>accept</span> <span>--network</span> <span>regtest</span>"));
    server.clock.advance(2 * DAY);
    browser.log_in(&node).await;
    let page = browser
        .get("/backup")
        .await
        .says(200, "Nothing has come from your node for 2 days");
    // The worst first.
    assert!(page.find("differs from").unwrap() < page.find("Nothing has come").unwrap());
    assert!(!page.contains("Your node is backed up here"));
}

#[tokio::test]
async fn devices_are_listed_with_what_their_grants_are_worth() {
    let (server, node, _client) = backup().await;
    let now = 1_700_000_000;
    for (serial, expires_at) in [(2, Some(now + 1000)), (3, Some(now + 90_000_000))] {
        let access = backstop_protocol::session::IdentitySecret::from_bytes(&[serial; 32]).unwrap();
        let grant = backstop_protocol::grant::Grant {
            access_key: access.access_key(),
            scope: Scope::Read,
            serial: serial.into(),
            expires_at,
            ..node.grant()
        };
        let opening = Opening {
            access_key: access.access_key(),
            grant: Some(SignedGrant::sign(&grant, &node.secret)),
            ..node.read_opening(&server)
        };
        let signed = opening.sign(&access, &[7; 32]).unwrap();
        let body = serde_json::to_vec(&signed).unwrap();
        assert_eq!(server.request("POST", api::SESSIONS, &body).await.status, 200);
    }
    server.clock.advance(2_000_000);
    let mut browser = Browser::at(server.addr);
    browser.log_in(&node).await;
    let page = browser.get("/backup").await.page();
    assert_eq!(page.matches("read: a mirror").count(), 2, "{page}");
    assert_eq!(page.matches(">expired<").count(), 1, "{page}");
    assert_eq!(page.matches("valid until").count(), 1, "{page}");
}

#[tokio::test]
async fn a_login_that_was_begun_at_one_process_is_finished_and_used_at_others() {
    let cluster = Cluster::shared();
    let dir = tempfile::tempdir().unwrap();
    let url = cluster.url(&cluster.database());
    let processes: Vec<_> = (0..3).map(|_| Process::start_over(dir.path(), &url)).collect();
    let node = Node::new(1);
    let mut client = node.first(&processes[0].place).await;
    client.append(1).await;
    let hop = |browser: Browser, to: usize| browser.at_another(processes[to].place.addr);
    let mut browser = Browser::at(processes[0].place.addr);
    let text = browser.begin(&node).await;
    let mut browser = hop(browser, 1);
    assert_eq!(browser.prove(&text, &node).await.status, 303);
    let mut browser = hop(browser, 2);
    browser
        .get("/backup")
        .await
        .says(200, "Your node is backed up here");
}
