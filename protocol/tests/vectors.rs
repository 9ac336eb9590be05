//! Runs SPEC's test vectors that need no key of a client.

use backstop_protocol::{
    api::{AccountState, LOCATE_MAX, parse_frames},
    bytes::Malformed,
    chunk::{parse_ids, parse_places},
    files::FilesHeader,
    grant::SignedGrant,
    hash::sha256,
    head::Head,
    id::{
        AccessKey, Challenge, ChunkId, InstanceId, Network, NodeId, PackId, RecordHash, RunId, ServerKey,
        SnapshotId, TimelineId,
    },
    login::SignedLogin,
    pack::parse_pack,
    problem::Problem,
    receipt::SignedReceipt,
    record::{Placement, RecordHeader, place, record_hash},
    revocation::SignedRevocation,
    session::{IdentitySecret, PairSecret, SignedOpening},
    signmessage,
    snapshot::{ManifestHeader, SnapshotCommit},
};
use backstop_testvectors::{Runner, Vector, vectors};
use std::str::FromStr;

/// The failure's name, or what is to be compared with the vector.
type Outcome = Result<Vec<(&'static str, String)>, String>;

#[test]
fn every_vector_does_what_it_says() {
    let mut wrong = Vec::new();
    for mut vector in vectors(Runner::Protocol) {
        let outcome = match vector.kind.as_str() {
            "identifier" => identifier(&mut vector),
            "identity" => identity(&mut vector),
            "signmessage" => signed_message(&mut vector),
            "grant" => grant(&mut vector),
            "revocation" => revocation(&mut vector),
            "login" => login(&mut vector),
            "receipt" => receipt(&mut vector),
            "opening" => opening(&mut vector),
            "request-mac" => request_mac(&mut vector),
            "answer-mac" => answer_mac(&mut vector),
            "record-header" => record_header(&mut vector),
            "placement" => placement(&mut vector),
            "head-order" => head_order(&mut vector),
            "locate-request" => locate_request(&mut vector),
            "locate-answer" => locate_answer(&mut vector),
            "pack" => pack(&mut vector),
            "manifest-header" => manifest_header(&mut vector),
            "snapshot-commit" => snapshot_commit(&mut vector),
            "files-header" => files_header(&mut vector),
            "frames" => frames(&mut vector),
            "problem" => problem(&mut vector),
            "account" => account(&mut vector),
            other => panic!("{}: nothing here runs the kind {other}", vector.name),
        };
        wrong.extend(vector.judge(outcome).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn malformed(why: Malformed) -> String {
    why.name().to_owned()
}

fn named<E>(name: &'static str) -> impl Fn(E) -> String {
    move |_| name.to_owned()
}

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn joined<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    items.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn identifier(vector: &mut Vector) -> Outcome {
    fn canonical<T: FromStr + ToString>(text: &str) -> Result<String, String> {
        text.parse::<T>()
            .map(|id| id.to_string())
            .map_err(named("identifier"))
    }
    let text = vector.text("text");
    let parse = match vector.text("type").as_str() {
        "node" => canonical::<NodeId>,
        "server" => canonical::<ServerKey>,
        "access key" => canonical::<AccessKey>,
        "timeline" => canonical::<TimelineId>,
        "instance" => canonical::<InstanceId>,
        "run" => canonical::<RunId>,
        "snapshot" => canonical::<SnapshotId>,
        "record hash" => canonical::<RecordHash>,
        "chunk" => canonical::<ChunkId>,
        "pack" => canonical::<PackId>,
        "challenge" => canonical::<Challenge>,
        "network" => canonical::<Network>,
        other => panic!("{}: nothing is called {other}", vector.name),
    };
    let canonical = parse(&text)?;
    assert_eq!(canonical, text, "{}: two spellings", vector.name);
    Ok(vec![])
}

fn identity(vector: &mut Vector) -> Outcome {
    let (secret, peer) = (vector.array("secret"), vector.array("peer"));
    let secret = IdentitySecret::from_bytes(&secret).map_err(named("secret"))?;
    secret.shared_with(&peer).map_err(named("public"))?;
    Ok(vec![("public", secret.access_key().to_string())])
}

fn signed_message(vector: &mut Vector) -> Outcome {
    let (text, signature) = (vector.text("text"), vector.text("signature"));
    let node = signmessage::recover(&text, &signature).map_err(named("signature"))?;
    Ok(vec![("node", node.to_string())])
}

fn grant(vector: &mut Vector) -> Outcome {
    let (text, signature) = (vector.text("text"), vector.text("signature"));
    let grant = SignedGrant { text, signature }
        .verify()
        .map_err(|why| why.name().to_owned())?;
    Ok(vec![
        ("access_key", grant.access_key.to_string()),
        ("scope", format!("{:?}", grant.scope).to_lowercase()),
        ("node", grant.node.to_string()),
        ("network", grant.network.to_string()),
        ("serial", grant.serial.to_string()),
        (
            "expires",
            grant
                .expires_at
                .map_or_else(|| "never".to_owned(), |at| at.to_string()),
        ),
    ])
}

fn revocation(vector: &mut Vector) -> Outcome {
    let (text, signature) = (vector.text("text"), vector.text("signature"));
    let revocation = SignedRevocation { text, signature }
        .verify()
        .map_err(|why| why.name().to_owned())?;
    Ok(vec![
        ("node", revocation.node.to_string()),
        ("network", revocation.network.to_string()),
        ("floor", revocation.floor.to_string()),
    ])
}

fn login(vector: &mut Vector) -> Outcome {
    let (text, signature) = (vector.text("text"), vector.text("signature"));
    let login = SignedLogin { text, signature }
        .verify()
        .map_err(|why| why.name().to_owned())?;
    Ok(vec![
        ("server", login.server.to_string()),
        ("node", login.node.to_string()),
        ("network", login.network.to_string()),
        ("challenge", login.challenge.to_string()),
        ("expires", login.expires_at.to_string()),
    ])
}

fn receipt(vector: &mut Vector) -> Outcome {
    let signed: SignedReceipt = serde_json::from_str(&vector.text("json")).map_err(named("json"))?;
    let receipt = signed.verify().map_err(|why| why.name().to_owned())?;
    Ok(vec![("digest", hex::encode(receipt.digest()))])
}

fn opening(vector: &mut Vector) -> Outcome {
    let signed: SignedOpening = serde_json::from_str(&vector.text("json")).map_err(named("json"))?;
    let opening = signed.verify().map_err(named("opening"))?;
    Ok(vec![("digest", hex::encode(opening.digest()))])
}

/// What both sides derive; each secret is given, so that either side can be checked.
fn pair(vector: &mut Vector) -> Result<[PairSecret; 2], String> {
    let mut identity = |field| IdentitySecret::from_bytes(&vector.array(field)).map_err(named("secret"));
    let (access, server) = (identity("access_secret")?, identity("server_secret")?);
    let here = access
        .shared_with(&server.server_key().0)
        .map_err(named("public"))?;
    let there = server
        .shared_with(&access.access_key().0)
        .map_err(named("public"))?;
    Ok([here, there])
}

fn same_mac(vector: &mut Vector, macs: [[u8; 32]; 2]) -> Outcome {
    let [here, there] = macs;
    assert_eq!(here, there, "{}: the two sides differ", vector.name);
    if vector.array::<32>("mac") == here {
        Ok(vec![])
    } else {
        Err("bad_mac".to_owned())
    }
}

fn request_mac(vector: &mut Vector) -> Outcome {
    let pair = pair(vector)?;
    let (token, method, path) = (vector.text("token"), vector.text("method"), vector.text("path"));
    let (counter, body) = (vector.number("counter"), sha256(&vector.bytes("body")));
    let macs = pair.map(|side| {
        side.session_key(&token)
            .request_mac(&method, &path, counter, &body)
    });
    same_mac(vector, macs)
}

fn answer_mac(vector: &mut Vector) -> Outcome {
    let pair = pair(vector)?;
    let keys = if let Some(token) = vector.optional("token") {
        pair.map(|side| side.session_key(&token))
    } else {
        let opening = vector.text("opening");
        pair.map(|side| side.opening_key(opening.as_bytes()))
    };
    let (request, status) = (vector.array("request_mac"), vector.number("status"));
    let body = sha256(&vector.bytes("body"));
    same_mac(vector, keys.map(|key| key.answer_mac(&request, status, &body)))
}

fn record_header(vector: &mut Vector) -> Outcome {
    let sealed = vector.bytes("sealed");
    let header = RecordHeader::parse(&sealed).map_err(malformed)?;
    Ok(vec![
        ("record_kind", format!("{:?}", header.kind).to_lowercase()),
        ("timeline", header.timeline.to_string()),
        ("epoch", header.epoch.to_string()),
        ("seq", header.seq.to_string()),
        ("prev", header.prev.to_string()),
        ("nonce", hex::encode(header.nonce)),
        ("hash", record_hash(&sealed).to_string()),
    ])
}

fn placement(vector: &mut Vector) -> Outcome {
    let sealed = vector.bytes("sealed");
    let header = RecordHeader::parse(&sealed).map_err(malformed)?;
    let head = Head {
        epoch: vector.number("head_epoch"),
        seq: vector.number("head_seq"),
        hash: RecordHash(vector.array("head_hash")),
    };
    let before = RecordHash(vector.array("before_head"));
    match place(
        &header,
        record_hash(&sealed),
        &head,
        before,
        vector.number("session_epoch"),
    ) {
        Placement::Refused => Err("refused".to_owned()),
        taken => Ok(vec![("placement", format!("{taken:?}").to_lowercase())]),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "two heads always have an order")]
fn head_order(vector: &mut Vector) -> Outcome {
    let mut head = |epoch: &str, seq: &str| Head {
        epoch: vector.number(epoch),
        seq: vector.number(seq),
        hash: RecordHash::NONE,
    };
    let (first, second) = (
        head("first_epoch", "first_seq"),
        head("second_epoch", "second_seq"),
    );
    Ok(vec![(
        "order",
        format!("{:?}", first.cmp_place(&second)).to_lowercase(),
    )])
}

fn locate_request(vector: &mut Vector) -> Outcome {
    let ids = parse_ids(&vector.bytes("body"), LOCATE_MAX).map_err(malformed)?;
    Ok(vec![("count", ids.len().to_string())])
}

fn locate_answer(vector: &mut Vector) -> Outcome {
    let (body, count) = (vector.bytes("body"), vector.number("count"));
    let places = parse_places(&body, count).map_err(malformed)?;
    let show = |place: &Option<_>| {
        place.map_or_else(
            || "missing".to_owned(),
            |place: backstop_protocol::chunk::ChunkPlace| {
                format!("{}@{}+{}", place.pack, place.offset, place.len)
            },
        )
    };
    Ok(vec![("places", joined(&places, show))])
}

fn pack(vector: &mut Vector) -> Outcome {
    let bytes = vector.bytes("bytes");
    let entries = parse_pack(&bytes).map_err(malformed)?;
    Ok(vec![
        ("pack", PackId(sha256(&bytes)).to_string()),
        (
            "chunks",
            joined(&entries, |e| format!("{}@{}+{}", e.id, e.offset, e.sealed.len())),
        ),
    ])
}

fn manifest_outcome(header: &ManifestHeader) -> Vec<(&'static str, String)> {
    vec![
        ("timeline", header.timeline.to_string()),
        ("snapshot", header.snapshot.to_string()),
        ("base_seq", header.base_seq.to_string()),
        ("base_hash", header.base_hash.to_string()),
        ("nonce", hex::encode(header.nonce)),
    ]
}

fn manifest_header(vector: &mut Vector) -> Outcome {
    let header = ManifestHeader::parse(&vector.bytes("sealed")).map_err(malformed)?;
    Ok(manifest_outcome(&header))
}

fn snapshot_commit(vector: &mut Vector) -> Outcome {
    let body = vector.bytes("body");
    let (header, commit) = SnapshotCommit::parse(&body).map_err(malformed)?;
    assert_eq!(commit.encode(), body, "{}: two spellings", vector.name);
    let mut outcome = manifest_outcome(&header);
    outcome.extend([
        ("parent", or_none(commit.parent)),
        ("added", joined(&commit.added, ToString::to_string)),
        ("removed", joined(&commit.removed, ToString::to_string)),
    ]);
    Ok(outcome)
}

fn files_header(vector: &mut Vector) -> Outcome {
    let header = FilesHeader::parse(&vector.bytes("sealed")).map_err(malformed)?;
    Ok(vec![("nonce", hex::encode(header.nonce))])
}

fn frames(vector: &mut Vector) -> Outcome {
    let page = vector.bytes("page");
    let frames = parse_frames(&page).map_err(malformed)?;
    let show =
        |(at, sealed): &(backstop_protocol::clock::UnixMillis, &[u8])| format!("{}+{}", at.0, sealed.len());
    Ok(vec![("frames", joined(&frames, show))])
}

fn problem(vector: &mut Vector) -> Outcome {
    let problem: Problem = serde_json::from_str(&vector.text("json")).map_err(named("json"))?;
    Ok(vec![
        ("code", problem.code.to_string()),
        ("status", problem.status.to_string()),
        ("head", or_none(problem.head)),
        ("epoch", or_none(problem.epoch)),
        ("missing", joined(&problem.missing, ToString::to_string)),
        ("shown", problem.to_string()),
    ])
}

fn account(vector: &mut Vector) -> Outcome {
    let account: AccountState = serde_json::from_str(&vector.text("json")).map_err(named("json"))?;
    Ok(vec![
        ("epoch", account.epoch.to_string()),
        ("head", account.head.to_string()),
        ("timeline", or_none(account.timeline)),
        (
            "snapshot",
            or_none(account.snapshot.map(|snapshot| snapshot.snapshot)),
        ),
    ])
}
