//! `protocol/SPEC.md` and the code name the same numbers, codes, paths and labels, and neither names one that the other
//! does not.

use backstop::{
    files::Files,
    record::{CONTEXT_RECORDS, CONTEXT_WEIGHT, Policy, SQL_MAX, STATEMENTS_MAX},
    snapshot::chunk::{CHUNK_LEN, LIST_IDS},
};
use backstop_protocol::{
    MAGIC, PROTOCOL_VERSION,
    api::{self, *},
    bytes::kind,
    files::FILES_HEADER_LEN,
    grant::{GRANT_MAX, GRANT_PREFIX},
    id::{
        AccessKey, Challenge, ChunkId, InstanceId, Network, NodeId, PackId, RecordHash, RunId, ServerKey,
        SnapshotId, TimelineId,
    },
    login::LOGIN_PREFIX,
    pack::{ENTRY_HEADER_LEN, PACK_PREAMBLE_LEN},
    problem::{PROBLEM_JSON, ProblemCode},
    receipt::RECEIPT_TAG,
    record::RECORD_MIN,
    removal::REMOVAL_PREFIX,
    revocation::REVOCATION_PREFIX,
    session::{ANSWER_LABEL, OPEN_TAG, OPENING_INFO, REQUEST_LABEL, SESSION_INFO},
    snapshot::MANIFEST_HEADER_LEN,
};
use std::collections::BTreeSet;

const SPEC: &str = include_str!("../../protocol/SPEC.md");

/// The rows of the table under a head, each as its cells without back-ticks.
fn table(spec: &str, head: &str) -> BTreeSet<Vec<String>> {
    let mut lines = spec.lines().skip_while(|line| *line != head);
    assert!(lines.next().is_some(), "SPEC has no table {head}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect()
    };
    rows.map(cells).collect()
}

/// The first two cells of each row.
fn pairs(spec: &str, head: &str) -> BTreeSet<(String, String)> {
    let pair = |row: Vec<String>| {
        let mut cells = row.into_iter();
        Some((cells.next()?, cells.next()?))
    };
    table(spec, head).into_iter().filter_map(pair).collect()
}

fn owned<T: ToString>(pairs: &[(&str, T)]) -> BTreeSet<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.to_string()))
        .collect()
}

/// The constants of 7.4 as the code has them.
fn constants() -> BTreeSet<(String, String)> {
    let sizes = [
        ("PADDED_MIN", PADDED_MIN),
        ("RECORD_MIN", RECORD_MIN),
        ("RECORD_MAX", RECORD_MAX),
        ("RECORD_PAGE", RECORD_PAGE),
        ("SQL_MAX", SQL_MAX),
        ("STATEMENTS_MAX", STATEMENTS_MAX),
        ("CONTEXT_WEIGHT", CONTEXT_WEIGHT),
        ("SERVERS_MAX", Policy::SERVERS_MAX),
        ("URL_MAX", Policy::URL_MAX),
        ("CHUNK_LEN", CHUNK_LEN),
        ("LIST_IDS", LIST_IDS),
        ("SEALED_CHUNK_MIN", SEALED_CHUNK_MIN),
        ("SEALED_CHUNK_MAX", SEALED_CHUNK_MAX),
        ("PACK_MAX", PACK_MAX),
        ("PACK_TARGET", PACK_TARGET),
        ("LOCATE_MAX", LOCATE_MAX),
        ("MANIFEST_MAX", MANIFEST_MAX),
        ("COMMIT_MAX", COMMIT_MAX),
        ("FILES_MAX", FILES_MAX),
        ("FILES_COUNT", Files::COUNT_MAX),
        ("MISSING_MAX", MISSING_MAX),
        ("GRANT_MAX", GRANT_MAX),
        ("INVITE_MAX", INVITE_MAX),
        ("JSON_MAX", JSON_MAX),
        ("ACCOUNT_GRANTS_MAX", ACCOUNT_GRANTS_MAX),
        ("CHUNKS_PAGE", CHUNKS_PAGE),
    ];
    let mut all = owned(&sizes);
    all.extend(owned(&[
        ("CONTEXT_RECORDS", CONTEXT_RECORDS),
        ("TOKEN_LIFE_MS", TOKEN_LIFE_MS),
        ("REMOVAL_FRESH_MS", REMOVAL_FRESH_MS),
        ("WAIT_MAX_MS", WAIT_MAX_MS),
    ]));
    all
}

#[test]
fn every_constant_has_one_value() {
    assert_eq!(pairs(SPEC, "| name | value | meaning |"), constants());
}

#[test]
fn a_constant_that_differs_is_noticed() {
    let changed = SPEC.replace("| `LOCATE_MAX` | 16384 |", "| `LOCATE_MAX` | 16385 |");
    assert_ne!(pairs(&changed, "| name | value | meaning |"), constants());
    let more = SPEC.replace("| `GRANT_MAX` |", "| `MOON_MAX` | 1 | |\n| `GRANT_MAX` |");
    assert_ne!(pairs(&more, "| name | value | meaning |"), constants());
}

#[test]
fn every_limit_that_the_api_has_is_in_the_specification() {
    let source = include_str!("../../protocol/src/api.rs");
    let names = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let limits =
        names.filter(|name| name.ends_with("_MAX") || name.ends_with("_MIN") || name.ends_with("_MS"));
    let known: BTreeSet<_> = constants().into_iter().map(|(name, _)| name).collect();
    for limit in limits {
        assert!(known.contains(limit), "{limit} is not in SPEC 7.4");
    }
}

#[test]
fn every_problem_code_has_one_status_and_one_sentence() {
    let code: BTreeSet<_> = ProblemCode::ALL
        .iter()
        .map(|code| {
            vec![
                code.as_str().to_owned(),
                code.status().to_string(),
                code.title().to_owned(),
            ]
        })
        .collect();
    assert_eq!(table(SPEC, "| code | status | title |"), code);
}

#[test]
fn every_path_is_one_of_the_api() {
    let rows = table(SPEC, "| call | session | body | answer |");
    let named: BTreeSet<_> = rows
        .iter()
        .filter_map(|row| row.first()?.split(' ').nth(1))
        .collect();
    let (grants, pack) = (format!("{GRANTS}/{{access_key}}"), format!("{PACKS}/{{pack}}"));
    let (from, part) = (
        format!("{RECORDS}?from={{seq}}"),
        format!("{pack}?offset={{n}}&length={{n}}"),
    );
    let wait = format!("{from}&wait={{ms}}");
    let manifest = format!("{SNAPSHOTS}/{{snapshot}}/manifest");
    let chunks = format!("{SNAPSHOTS}/{{snapshot}}/chunks?after={{id}}");
    let at = format!("{FILES}?at={{time}}");
    let code = [
        HEALTH,
        INFO,
        &grants,
        GRANTS,
        REVOCATIONS,
        SESSIONS,
        api::HEAD,
        RECEIPT,
        RECORDS,
        &wait,
        LOCATE,
        &pack,
        &part,
        SNAPSHOTS,
        &manifest,
        &chunks,
        PROOFS,
        PROOFS_ACCEPTED,
        ROLL_UP,
        REMOVAL,
        FILES,
        &at,
    ];
    assert_eq!(named, BTreeSet::from(code));
}

#[test]
fn kinds_of_objects_have_one_number() {
    let kinds = [
        (kind::BATCH, "batch"),
        (kind::GAP, "gap"),
        (kind::POLICY, "policy"),
        (kind::PACK, "pack"),
        (kind::MANIFEST, "manifest"),
        (kind::FILES, "files"),
    ];
    let code = kinds.map(|(number, name)| (number.to_string(), name.to_owned()));
    assert_eq!(pairs(SPEC, "| kind | object | section |"), BTreeSet::from(code));
}

#[test]
fn identifiers_have_one_length() {
    let lengths = [
        ("node", NodeId::LEN),
        ("server key", ServerKey::LEN),
        ("access key", AccessKey::LEN),
        ("timeline", TimelineId::LEN),
        ("instance", InstanceId::LEN),
        ("run", RunId::LEN),
        ("snapshot", SnapshotId::LEN),
        ("record hash", RecordHash::LEN),
        ("chunk id", ChunkId::LEN),
        ("pack id", PackId::LEN),
        ("challenge", Challenge::LEN),
    ];
    assert_eq!(
        pairs(SPEC, "| identifier | bytes | what it is |"),
        owned(&lengths)
    );
}

#[test]
fn texts_that_travel_are_the_same_to_the_letter() {
    let labels = [
        OPEN_TAG,
        SESSION_INFO,
        OPENING_INFO,
        REQUEST_LABEL,
        ANSWER_LABEL,
        RECEIPT_TAG,
    ];
    for label in labels {
        assert!(SPEC.contains(&format!("\"{label}\"")), "{label}");
    }
    for network in Network::ALL {
        assert!(SPEC.contains(&format!("`{network}`")), "{network}");
    }
    assert!(SPEC.contains(&format!("\n{GRANT_PREFIX}<64 hex>")));
    assert!(SPEC.contains(&format!("\n{REMOVAL_PREFIX}remove the")));
    assert!(SPEC.contains(&format!("\n{REVOCATION_PREFIX}<66 hex>")));
    assert!(SPEC.contains(&format!("\n{LOGIN_PREFIX}<64 hex>")));
    assert!(SPEC.contains(&format!("`Authorization: {AUTH_SCHEME} ")));
    assert!(SPEC.contains(&format!("`{MAC_HEADER}`")));
    assert!(SPEC.contains(OCTETS) && SPEC.contains(PROBLEM_JSON));
    assert!(SPEC.contains(&format!("magic, `{}`", String::from_utf8_lossy(&MAGIC))));
    assert!(SPEC.contains(&format!("| version, {PROTOCOL_VERSION} |")));
}

#[test]
fn offsets_in_byte_tables_end_where_the_code_says() {
    let (_, manifests) = SPEC.split_once("### 6.3").unwrap();
    assert!(manifests.contains(&format!("\n| {MANIFEST_HEADER_LEN} | … | `SEAL(manifest key")));
    let (_, files) = SPEC.split_once("### 6.7").unwrap();
    assert!(files.contains(&format!("\n| {FILES_HEADER_LEN} | … | `SEAL(files key")));
    let (_, packs) = SPEC.split_once("### 6.2").unwrap();
    assert!(packs.contains(&format!("\n| {PACK_PREAMBLE_LEN} | … | one or more entries")));
    assert!(packs.contains(&format!("\n| {ENTRY_HEADER_LEN} | … | the sealed chunk")));
}
