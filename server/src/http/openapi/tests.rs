//! The document against the code that it describes.

use super::*;
use backstop_protocol::{
    api::{
        AccountGrants, AccountState, Appended, FilesInfo, Health, KnownGrants, Proof, ProofReport,
        RememberedGrant, ServerInfo, SessionOpened, SnapshotInfo, SnapshotList,
    },
    clock::UnixMillis,
    grant::{Scope, SignedGrant},
    head::Head,
    id::{
        AccessKey, ChunkId, InstanceId, Network, NodeId, RecordHash, RunId, ServerKey, SnapshotId, TimelineId,
    },
    problem::{Problem, ProblemCode},
    quota::{Quota, QuotaLevel},
    receipt::{RECEIPT_VERSION, Receipt, SignedReceipt},
    removal::SignedRemoval,
    revocation::SignedRevocation,
    session::{IdentitySecret, Opening, SignedOpening, WriterClaim},
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

fn head() -> Head {
    Head {
        epoch: 1,
        seq: 1,
        hash: RecordHash([1; 32]),
    }
}

fn grant() -> SignedGrant {
    SignedGrant {
        text: "text".to_owned(),
        signature: "y".to_owned(),
    }
}

fn quota() -> Quota {
    Quota {
        bytes: 1,
        used: 1,
        packs: 1,
        most: 1,
        level: QuotaLevel::Near,
    }
}

fn remembered() -> RememberedGrant {
    let SignedGrant { text, signature } = grant();
    RememberedGrant {
        text,
        signature,
        shown_at: UnixMillis(7),
    }
}

fn revocation() -> SignedRevocation {
    let SignedGrant { text, signature } = grant();
    SignedRevocation { text, signature }
}

fn receipt() -> Receipt {
    Receipt {
        version: RECEIPT_VERSION,
        server: ServerKey([1; 32]),
        node: NodeId([2; 33]),
        network: Network::Regtest,
        timeline: Some(TimelineId([1; 16])),
        head: head(),
        time: UnixMillis(7),
    }
}

fn removal() -> SignedRemoval {
    let SignedGrant { text, signature } = grant();
    SignedRemoval { text, signature }
}

fn access() -> IdentitySecret {
    IdentitySecret::from_bytes(&[1; 32]).unwrap()
}

fn opening() -> Opening {
    Opening {
        server: ServerKey([1; 32]),
        node: NodeId([2; 33]),
        network: Network::Regtest,
        access_key: AccessKey(access().access_key().0),
        grant: Some(grant()),
        scope: Scope::Append,
        writer: Some(WriterClaim {
            instance: InstanceId([1; 16]),
            run: RunId([1; 16]),
            expected_epoch: 0,
            epoch: 1,
            takeover: false,
        }),
        time: UnixMillis(7),
    }
}

fn problem() -> Problem {
    let mut problem = Problem::new(ProblemCode::NotNext, "detail".to_owned());
    problem.head = Some(head());
    problem.epoch = Some(1);
    problem.since = Some(UnixMillis(7));
    problem.missing = vec![ChunkId([1; 32])];
    problem
}

/// What is JSON in any call, with every member there.
fn snapshot() -> SnapshotInfo {
    SnapshotInfo {
        snapshot: SnapshotId([1; 16]),
        base_seq: 1,
        base_hash: RecordHash([1; 32]),
        committed_at: UnixMillis(7),
        bytes: 1,
    }
}

fn proof() -> Proof {
    Proof {
        at: UnixMillis(7),
        seq: 1,
        equal: true,
    }
}

fn files() -> FilesInfo {
    FilesInfo {
        received_at: UnixMillis(7),
        bytes: 1,
    }
}

fn account() -> AccountState {
    let at = UnixMillis(7);
    AccountState {
        node: NodeId([2; 33]),
        network: Network::Regtest,
        epoch: 1,
        timeline: Some(TimelineId([1; 16])),
        head: head(),
        head_received_at: Some(at),
        writer_since: Some(at),
        writer_seen_at: Some(at),
        first_seq: 1,
        log_bytes: 1,
        snapshot: Some(snapshot()),
        roll_up: true,
        proof: Some(proof()),
        held_since: Some(at),
        files: Some(files()),
        quota: Some(quota()),
        removal_at: Some(at),
        restored_since: Some(at),
        time: at,
    }
}

fn samples() -> BTreeMap<&'static str, Value> {
    fn sample(value: impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }
    let at = UnixMillis(7);
    let account = account();
    let (snapshot, proof, files, quota) = (snapshot(), proof(), files(), quota());
    let (grant, opening, problem) = (grant(), opening(), problem());
    let health = Health {
        status: "ok".to_owned(),
    };
    let info = ServerInfo {
        server: ServerKey([1; 32]),
        version: "1".to_owned(),
        protocols: vec![1],
        time: at,
        record_max: 1,
    };
    let opened = SessionOpened {
        token: "token".to_owned(),
        expires_in_ms: 1,
        account: account.clone(),
    };
    let signed = SignedOpening {
        invite: Some("invite".to_owned()),
        ..opening.clone().sign(&access(), &[1; 32]).unwrap()
    };
    BTreeMap::from([
        ("Document", describe(&calls())),
        ("Health", sample(health)),
        ("ServerInfo", sample(info)),
        (
            "KnownGrants",
            sample(KnownGrants {
                grants: vec![grant.clone()],
            }),
        ),
        ("SignedGrant", sample(grant)),
        ("Head", sample(head())),
        (
            "Appended",
            sample(Appended {
                head: head(),
                roll_up: true,
                quota: Some(quota),
                removal_at: Some(at),
            }),
        ),
        ("SnapshotInfo", sample(snapshot)),
        (
            "SnapshotList",
            sample(SnapshotList {
                snapshots: vec![snapshot],
            }),
        ),
        ("Proof", sample(proof)),
        ("FilesInfo", sample(files)),
        (
            "AccountGrants",
            sample(AccountGrants {
                floor: 1,
                grants: vec![remembered()],
            }),
        ),
        ("RememberedGrant", sample(remembered())),
        ("SignedRevocation", sample(revocation())),
        ("Receipt", sample(receipt())),
        (
            "SignedReceipt",
            sample(SignedReceipt {
                receipt: receipt(),
                signature: [1; 64],
            }),
        ),
        ("Quota", sample(quota)),
        ("SignedRemoval", sample(removal())),
        ("ProofReport", sample(ProofReport { seq: 1, equal: true })),
        ("SessionOpened", sample(opened)),
        ("AccountState", sample(account)),
        ("SignedOpening", sample(signed)),
        ("Opening", sample(opening)),
        ("Problem", sample(problem)),
    ])
}

fn names(members: &Value) -> BTreeSet<&str> {
    members.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether a value is what a schema says, as far as these schemas go.
fn fits(value: &Value, schema: &Value, all: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(value, &all[name.rsplit('/').next().unwrap()], all);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().any(|schema| fits(value, schema, all));
    }
    if let Some(known) = schema["enum"].as_array() {
        return known.contains(value);
    }
    if let Some(only) = schema.get("const") {
        return only == value;
    }
    match schema["type"].as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value
            .as_u64()
            .is_some_and(|number| schema["maximum"].as_u64().unwrap() >= number),
        "string" => value.as_str().is_some_and(|text| {
            let hex = schema["pattern"]
                .as_str()
                .and_then(|pattern| pattern.strip_prefix("^[0-9a-f]{"));
            let digits = hex.map(|rest| rest.trim_end_matches("}$").parse::<usize>().unwrap());
            digits.is_none_or(|digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()))
        }),
        "array" => value
            .as_array()
            .is_some_and(|items| items.iter().all(|item| fits(item, &schema["items"], all))),
        "object" if schema.get("properties").is_none() => value.is_object(),
        "object" => {
            let (properties, found) = (&schema["properties"], value.as_object().unwrap());
            names(properties) == names(value)
                && found
                    .iter()
                    .all(|(name, value)| fits(value, &properties[name], all))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_schema_has_the_members_that_the_code_writes_and_no_others() {
    let (samples, all) = (samples(), schemas::all());
    assert_eq!(names(&all), samples.keys().copied().collect());
    for (name, sample) in samples {
        assert!(
            fits(&sample, &all[name], &all),
            "{name}: {sample} is not {}",
            all[name]
        );
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere_and_every_schema_is_used() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = describe(&calls());
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    let components = document["components"].as_object().unwrap();
    let all: BTreeSet<_> = ["schemas", "responses"]
        .iter()
        .flat_map(|kind| {
            names(&components[*kind])
                .into_iter()
                .map(move |name| format!("#/components/{kind}/{name}"))
        })
        .collect();
    assert_eq!(found, all);
}

#[test]
fn no_two_calls_have_one_name_or_one_place() {
    let (mut named, mut placed) = (BTreeSet::new(), BTreeSet::new());
    for call in calls() {
        assert!(named.insert(call.name), "{}", call.name);
        assert!(placed.insert((call.method, call.path.clone())), "{}", call.path);
    }
}
