//! Whatever anybody sends: a problem document or a sentence, and nothing changed (I12).

use anyhow::{Context, Result, ensure};
use backstop_protocol::{
    api::{self, Appended},
    chunk::encode_ids,
    clock::UnixMillis,
    grant::{Scope, SignedGrant},
    id::{ChunkId, Network, RecordHash, RunId, ServerKey, SnapshotId, TimelineId},
    pack::PackBuilder,
    problem::ProblemCode,
    record::record_hash,
    session::{Opening, SignedOpening},
    snapshot::{ManifestHeader, SnapshotCommit},
};
use backstop_tests::{
    caller::{Answer, Caller, http, raw, record},
    rng::Rng,
    scene::Scene,
    servers::Server,
    wallet::Journal,
};
use serde_json::Value;

/// A refusal that is the client's fault, as a problem document.
fn refused(answer: &Answer, what: &str) -> Result<ProblemCode> {
    ensure!(
        (400..500).contains(&answer.status),
        "{what}: {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(answer.problem().with_context(|| what.to_owned())?.code)
}

/// A caller with an open session and two records.
fn writer(server: &Server) -> Result<Caller> {
    let mut caller = Caller::new(server.address(), 1)?;
    caller.open(caller.opening(0))?;
    let first = record(1, 1, RecordHash::NONE);
    let second = record(1, 2, record_hash(&first));
    for bytes in [&first, &second] {
        let answer = caller.call("POST", api::RECORDS, bytes)?;
        ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    Ok(caller)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one list of everything that can be wrong")]
fn an_opening_with_anything_wrong_opens_nothing() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let before = caller.account()?;
    let stranger = Caller::new(server.address(), 2)?;
    let good = || caller.opening(1);
    let with = |change: &dyn Fn(&mut Opening)| {
        let mut opening = good();
        change(&mut opening);
        opening
    };
    let grant = |change: &dyn Fn(&mut backstop_protocol::grant::Grant)| {
        let mut grant = caller.grant();
        change(&mut grant);
        SignedGrant::sign(&grant, &caller.node_key)
    };
    let cases: Vec<(&str, Opening)> = vec![
        ("another server", with(&|o| o.server = ServerKey([9; 32]))),
        ("another node", with(&|o| o.node = stranger.node())),
        ("another network", with(&|o| o.network = Network::Bitcoin)),
        (
            "a stranger's grant",
            with(&|o| o.grant = Some(SignedGrant::sign(&stranger.grant(), &stranger.node_key))),
        ),
        (
            "a grant that a stranger signed",
            with(&|o| o.grant = Some(SignedGrant::sign(&caller.grant(), &stranger.node_key))),
        ),
        (
            "an expired grant",
            with(&|o| o.grant = Some(grant(&|g| g.expires_at = Some(1)))),
        ),
        (
            "a grant to read",
            with(&|o| {
                o.grant = Some(grant(&|g| {
                    g.scope = Scope::Read;
                    g.serial = 2;
                }));
            }),
        ),
        (
            "a grant on another network",
            with(&|o| o.grant = Some(grant(&|g| g.network = Network::Signet))),
        ),
        (
            "a grant with another text",
            with(&|o| {
                if let Some(grant) = &mut o.grant {
                    grant.text = grant.text.replace("serial 1", "serial 9");
                }
            }),
        ),
        (
            "a grant that is no grant",
            with(&|o| {
                if let Some(grant) = &mut o.grant {
                    grant.text = "Backstop login 1".to_owned();
                }
            }),
        ),
        (
            "an old epoch",
            with(&|o| {
                if let Some(w) = &mut o.writer {
                    w.expected_epoch = 0;
                }
            }),
        ),
        (
            "an epoch to come",
            with(&|o| {
                if let Some(w) = &mut o.writer {
                    w.expected_epoch = 5;
                    w.epoch = 6;
                }
            }),
        ),
        (
            "an epoch that does not rise",
            with(&|o| {
                if let Some(w) = &mut o.writer {
                    w.epoch = 1;
                }
            }),
        ),
        (
            "an epoch beyond numbers",
            with(&|o| {
                if let Some(w) = &mut o.writer {
                    w.epoch = u64::MAX;
                }
            }),
        ),
        (
            "another instance",
            with(&|o| {
                if let Some(w) = &mut o.writer {
                    w.instance.0 = [8; 16];
                }
            }),
        ),
        ("writing without a claim", with(&|o| o.writer = None)),
        ("reading with a claim", with(&|o| o.scope = Scope::Read)),
    ];
    for (what, opening) in cases {
        refused(&caller.send_opening(opening)?, what)?;
    }
    // Another key's signature, and every field changed after signing.
    refused(&stranger.send_opening(good())?, "a stranger's signature")?;
    let signed = good().sign(&caller.access, &[0; 32])?;
    let after = |change: &dyn Fn(&mut SignedOpening)| {
        let mut copy = signed.clone();
        change(&mut copy);
        copy
    };
    for (what, changed) in [
        ("signature", after(&|s| s.signature[5] ^= 1)),
        ("time", after(&|s| s.opening.time = UnixMillis(2))),
        (
            "run",
            after(&|s| {
                if let Some(w) = &mut s.opening.writer {
                    w.run = RunId([5; 16]);
                }
            }),
        ),
        (
            "takeover",
            after(&|s| {
                if let Some(w) = &mut s.opening.writer {
                    w.takeover = true;
                }
            }),
        ),
        ("grant taken away", after(&|s| s.opening.grant = None)),
    ] {
        refused(&caller.send_signed(&changed)?, what)?;
    }
    assert_eq!(caller.account()?, before);
    Ok(())
}

#[test]
fn every_member_of_an_opening_missing_of_another_kind_or_too_long_is_refused() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let before = caller.account()?;
    let good = serde_json::to_value(caller.opening(1).sign(&caller.access, &[0; 32])?)?;
    let mut tried = 0;
    let mut paths = Vec::new();
    collect(&good, "", &mut paths);
    for path in paths {
        let wrong = [
            None,
            Some(Value::Null),
            Some(serde_json::json!([])),
            Some(serde_json::json!({"a": 1})),
            Some(serde_json::json!(-1)),
            Some(serde_json::json!("x".repeat(5000))),
            Some(serde_json::json!("\u{0}")),
        ];
        for value in wrong {
            let mut changed = good.clone();
            let (parent, name) = path.rsplit_once('/').context("a path")?;
            let object = changed
                .pointer_mut(parent)
                .and_then(Value::as_object_mut)
                .context("an object")?;
            match &value {
                None => drop(object.remove(name)),
                Some(value) => drop(object.insert(name.to_owned(), value.clone())),
            }
            let body = serde_json::to_vec(&changed)?;
            let answer = http(&caller.address, "POST", api::SESSIONS, &[], &body)?;
            refused(&answer, &format!("{path} as {value:?}"))?;
            tried += 1;
        }
    }
    ensure!(tried > 80, "{tried}");
    let text = serde_json::to_vec(&good)?;
    for len in (0..text.len()).step_by(97) {
        refused(
            &http(&caller.address, "POST", api::SESSIONS, &[], &text[..len])?,
            "cut off",
        )?;
    }
    let long = [text.as_slice(), &vec![b' '; api::JSON_MAX]].concat();
    assert_eq!(
        refused(
            &http(&caller.address, "POST", api::SESSIONS, &[], &long)?,
            "too long"
        )?,
        ProblemCode::TooLarge
    );
    assert_eq!(caller.account()?, before);
    Ok(())
}

/// The JSON pointers of all members.
fn collect(value: &Value, at: &str, into: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let path = format!("{at}/{name}");
        collect(member, &path, into);
        into.push(path);
    }
}

#[test]
fn a_request_without_the_right_credentials_does_nothing() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let before = caller.account()?;
    let next = record(1, 3, before.head.hash);
    let good = caller.authorization("POST", api::RECORDS, &next)?;
    let words: Vec<&str> = good.split(' ').collect();
    let (token, counter, mac) = (words[1], words[2], words[3]);
    let flipped = mac.replace(['0', '1', '2', '3'], "f");
    let cases = [
        ("none", String::new()),
        ("another scheme", format!("Bearer {token}")),
        ("no MAC", format!("Backstop {token} {counter}")),
        ("another MAC", format!("Backstop {token} {counter} {flipped}")),
        (
            "a short MAC",
            format!("Backstop {token} {counter} {}", &mac[..62]),
        ),
        ("another counter", format!("Backstop {token} 99 {mac}")),
        ("a negative counter", format!("Backstop {token} -1 {mac}")),
        (
            "a counter beyond numbers",
            format!("Backstop {token} 99999999999999999999 {mac}"),
        ),
        (
            "a cut token",
            format!("Backstop {} {counter} {mac}", &token[..token.len() - 1]),
        ),
        (
            "another token",
            format!("Backstop {} {counter} {mac}", "0".repeat(token.len())),
        ),
        ("a word too many", format!("{good} x")),
        ("too long", format!("{good}{}", "0".repeat(4000))),
    ];
    for (what, authorization) in &cases {
        let headers: Vec<(&str, &str)> = if authorization.is_empty() {
            vec![]
        } else {
            vec![("Authorization", authorization)]
        };
        let answer = http(&caller.address, "POST", api::RECORDS, &headers, &next)?;
        refused(&answer, what)?;
    }
    // The MAC covers method, path and body.
    for (method, path, body) in [
        ("PUT", api::RECORDS, next.as_slice()),
        ("POST", "/v1/records?from=1", &next),
        ("POST", api::SNAPSHOTS, &next),
        ("POST", api::RECORDS, &next[..next.len() - 1]),
        ("POST", api::RECORDS, &[next.as_slice(), b"x"].concat()),
    ] {
        refused(
            &http(&caller.address, method, path, &[("Authorization", &good)], body)?,
            "another request",
        )?;
    }
    assert_eq!(caller.account()?, before);
    Ok(())
}

#[test]
fn a_record_that_is_none_or_does_not_continue_the_chain_changes_nothing() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let before = caller.account()?;
    let good = record(1, 3, before.head.hash);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("magic".to_owned(), with(&|b| b[0] ^= 1)),
        ("version".to_owned(), with(&|b| b[4] = 2)),
        ("kind".to_owned(), with(&|b| b[5] = 77)),
        ("timeline".to_owned(), with(&|b| b[6] ^= 1)),
        ("epoch 0".to_owned(), with(&|b| b[22..30].fill(0))),
        ("epoch to come".to_owned(), with(&|b| b[29] = 9)),
        ("epoch beyond numbers".to_owned(), with(&|b| b[22..30].fill(255))),
        ("seq 0".to_owned(), with(&|b| b[30..38].fill(0))),
        ("seq skipped".to_owned(), with(&|b| b[37] = 4)),
        ("seq repeated".to_owned(), record(1, 2, record_hash(b"other"))),
        ("another prev".to_owned(), with(&|b| b[38] ^= 1)),
        (
            "first again".to_owned(),
            record(1, 1, RecordHash::NONE).iter().rev().copied().collect(),
        ),
    ];
    for len in [0, 1, 5, 93, 94, 110, good.len() - 1] {
        cases.push((format!("{len} bytes"), good[..len].to_vec()));
    }
    for (what, bytes) in &cases {
        let answer = caller.call("POST", api::RECORDS, bytes)?;
        refused(&answer, what)?;
    }
    assert_eq!(caller.account()?, before);
    // What is good is still taken, once, however often it comes.
    for _ in 0..3 {
        let answer = caller.call("POST", api::RECORDS, &good)?;
        let appended: Appended = serde_json::from_slice(&answer.body)?;
        assert_eq!((answer.status, appended.head.seq), (200, 3));
    }
    Ok(())
}

#[test]
fn a_replayed_request_appends_nothing_twice() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let head = caller.account()?.head;
    let next = record(1, 3, head.hash);
    let authorization = caller.authorization("POST", api::RECORDS, &next)?;
    for _ in 0..3 {
        http(
            &caller.address,
            "POST",
            api::RECORDS,
            &[("Authorization", &authorization)],
            &next,
        )?;
    }
    let after = caller.account()?;
    assert_eq!((after.head.seq, after.head.hash), (3, record_hash(&next)));
    // An opening that was heard on the way, sent again after the next run opened, brings nobody back.
    let old = caller.opening(1).sign(&caller.access, &[0; 32])?;
    ensure!(caller.send_signed(&old)?.status == 200);
    caller.open(caller.opening(2))?;
    refused(&caller.send_signed(&old)?, "a replayed opening")?;
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one list of everything that can be wrong")]
fn packs_and_snapshots_that_are_none_change_nothing() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let head = caller.account()?.head;
    let mut builder = PackBuilder::default();
    builder.push(ChunkId([3; 32]), &vec![1; api::SEALED_CHUNK_MIN]);
    let (id, pack) = builder.finish();
    let put = |caller: &mut Caller, name: &str, bytes: &[u8]| {
        caller.call("PUT", &format!("{}/{name}", api::PACKS), bytes)
    };
    refused(&put(&mut caller, &"0".repeat(64), &pack)?, "another name")?;
    refused(&put(&mut caller, "x", &pack)?, "no name")?;
    refused(&put(&mut caller, "../../etc/passwd", &pack)?, "a path")?;
    refused(
        &put(&mut caller, &id.to_string().to_uppercase(), &pack)?,
        "upper case",
    )?;
    for cut in [&pack[..0], &pack[..7], &pack[..pack.len() - 1]] {
        let name = record_hash(cut).to_string();
        refused(&put(&mut caller, &name, cut)?, "a cut pack under its own hash")?;
    }
    for body in [&b"x"[..], &[0; 33], &vec![0; (api::LOCATE_MAX + 1) * 32]] {
        refused(&caller.call("POST", api::LOCATE, body)?, "ids that are none")?;
    }
    let manifest = ManifestHeader {
        timeline: TimelineId([7; 16]),
        snapshot: SnapshotId([1; 16]),
        base_seq: 2,
        base_hash: head.hash,
        nonce: [0; 24],
    };
    let commit = |header: &ManifestHeader, added: Vec<ChunkId>, parent| {
        let mut manifest = header.encode();
        manifest.resize(manifest.len() + 272, 0);
        SnapshotCommit {
            manifest,
            parent,
            added,
            removed: vec![],
        }
        .encode()
    };
    let good = commit(&manifest, vec![ChunkId([3; 32])], None);
    let cases = [
        ("a chunk that is not there", good.clone()),
        (
            "a base that is not on the chain",
            commit(
                &ManifestHeader {
                    base_seq: 9,
                    ..manifest
                },
                vec![],
                None,
            ),
        ),
        (
            "a base with another hash",
            commit(
                &ManifestHeader {
                    base_hash: RecordHash([4; 32]),
                    ..manifest
                },
                vec![],
                None,
            ),
        ),
        (
            "another timeline",
            commit(
                &ManifestHeader {
                    timeline: TimelineId([8; 16]),
                    ..manifest
                },
                vec![],
                None,
            ),
        ),
        (
            "a parent that is not there",
            commit(&manifest, vec![], Some(SnapshotId([5; 16]))),
        ),
        (
            "ids that are not sorted",
            commit(&manifest, vec![ChunkId([3; 32]), ChunkId([2; 32])], None),
        ),
        ("cut off", good[..good.len() - 1].to_vec()),
        ("something behind it", [good.as_slice(), b"x"].concat()),
        ("nothing", vec![]),
    ];
    for (what, body) in &cases {
        refused(&caller.call("POST", api::SNAPSHOTS, body)?, what)?;
    }
    for path in [
        "/v1/records",
        "/v1/records?from=x",
        "/v1/records?from=-1",
        "/v1/records?from=99999999999999999999",
        "/v1/packs/00",
        "/v1/snapshots/zz/manifest",
        "/v1/snapshots/00000000000000000000000000000000/manifest",
        "/v1/nothing",
        "/nothing",
    ] {
        refused(&caller.call("GET", path, b"")?, path)?;
    }
    ensure!(
        caller
            .call("POST", api::LOCATE, &encode_ids(&[ChunkId([3; 32])]))?
            .status
            == 200
    );
    ensure!(caller.account()?.snapshot.is_none());
    ensure!(caller.account()?.head == head);
    Ok(())
}

#[test]
fn another_nodes_session_sees_and_changes_nothing_of_this_one() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let before = caller.account()?;
    let mut stranger = Caller::new(server.address(), 2)?;
    stranger.open(stranger.opening(0))?;
    ensure!(stranger.account()?.head.is_empty());
    let page = stranger.call("GET", "/v1/records?from=1", b"")?;
    ensure!(
        page.status != 200 || page.body.is_empty(),
        "a stranger reads records"
    );
    // A log that holds nothing may begin with any record: this one begins the stranger's own.
    let next = record(1, 3, before.head.hash);
    let answer = stranger.call("POST", api::RECORDS, &next)?;
    ensure!(answer.status == 200, "{answer:?}");
    assert_eq!(stranger.account()?.first_seq, 3);
    assert_eq!(caller.account()?, before, "it went to another node's log");
    // A token under another session's key.
    let mine = stranger.session.take().context("a session")?;
    let theirs = caller.session.take().context("a session")?;
    stranger.session = Some((theirs.0.clone(), mine.1));
    refused(&stranger.call("GET", api::HEAD, b"")?, "a stolen token")?;
    caller.session = Some(theirs);
    assert_eq!(caller.account()?, before);
    Ok(())
}

#[test]
fn bytes_that_are_no_request_hurt_nobody() -> Result<()> {
    let server = Server::start()?;
    let mut caller = writer(&server)?;
    let before = caller.account()?;
    let mut rng = Rng::new(3);
    let good = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        api::INFO
    );
    for case in 0..200 {
        let mut bytes = good.clone().into_bytes();
        match case % 4 {
            0 => bytes = rng.bytes(300),
            1 => bytes.truncate(rng.index(bytes.len())),
            2 => {
                let at = rng.index(bytes.len());
                bytes[at] = u8::try_from(rng.below(256))?;
            }
            _ => {
                bytes = [
                    b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n".as_slice(),
                    &rng.bytes(20),
                ]
                .concat();
            }
        }
        let mut stream = std::net::TcpStream::connect(server.address())?;
        // The answer, if there is one, does not matter; that the server lives does.
        let _ = std::io::Write::write_all(&mut stream, &bytes);
    }
    ensure!(raw(server.address(), good.as_bytes())?.starts_with(b"HTTP/1.1 200"));
    assert_eq!(caller.account()?, before);
    Ok(())
}

#[test]
fn a_broken_directory_is_a_sentence_in_the_log_and_never_a_default() -> Result<()> {
    let mut scene = Scene::new(6, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let backstop = scene.node.network_dir().join("backstop");
    let version = scene.oracle.version();
    let mut rng = Rng::new(6);
    for name in ["config.toml", "key", "instance", "runs", "witness"] {
        let path = backstop.join(name);
        let kept = std::fs::read(&path).with_context(|| name.to_owned())?;
        let mode = std::fs::metadata(&path)?.permissions();
        let spoilt: [&[u8]; 4] = [b"", b"nonsense", &kept[..kept.len() / 2], &rng.bytes(100)];
        for bytes in spoilt {
            std::fs::remove_file(&path)?;
            std::fs::write(&path, bytes)?;
            std::fs::set_permissions(&path, mode.clone())?;
            let failed = scene
                .start(2)
                .err()
                .with_context(|| format!("{name} as {bytes:?} was taken"))?;
            ensure!(
                failed.to_string().contains(name) || failed.says.contains("backstop"),
                "{name}: {failed}"
            );
            ensure!(!failed.says.contains("panicked"), "{name}: {failed}");
        }
        std::fs::remove_file(&path)?;
        std::fs::write(&path, kept)?;
        std::fs::set_permissions(&path, mode)?;
    }
    ensure!(scene.oracle.version() == version);
    Ok(())
}
