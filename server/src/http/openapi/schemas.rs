//! The shapes of JSON bodies. Tests hold each against what the code writes.

use backstop_protocol::{
    api::{JSON_MAX, MISSING_MAX},
    problem::ProblemCode,
};
use serde_json::{Map, Value, json};

/// An identifier of so many bytes.
pub(super) fn hex(bytes: usize) -> Value {
    json!({ "type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", 2 * bytes) })
}

/// A number that is never negative; JSON's readers may not know those above 2^53.
pub(super) fn number() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list(of: &Value) -> Value {
    json!({ "type": "array", "items": of })
}

/// What may be `null`.
fn maybe(of: &Value) -> Value {
    json!({ "anyOf": [of, { "type": "null" }] })
}

fn truth() -> Value {
    json!({ "type": "boolean" })
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// An object that has all of these members. A client passes over those that it does not know.
fn object(members: &[(&str, Value)]) -> Value {
    let names: Vec<_> = members.iter().map(|(name, _)| *name).collect();
    let members: Map<_, _> = members
        .iter()
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    json!({ "type": "object", "properties": members, "required": names })
}

/// The same, of whose members some may be absent.
fn sparse(members: &[(&str, Value)], optional: &[&str]) -> Value {
    let mut schema = object(members);
    if let Value::Object(parts) = &mut schema {
        let names = members.iter().map(|(name, _)| *name);
        let required: Vec<_> = names.filter(|name| !optional.contains(name)).collect();
        parts.insert("required".to_owned(), json!(required));
    }
    schema
}

/// The same, where a server refuses members that it does not know.
fn request(members: &[(&str, Value)], optional: &[&str]) -> Value {
    let mut schema = sparse(members, optional);
    if let Value::Object(parts) = &mut schema {
        parts.insert("additionalProperties".to_owned(), false.into());
    }
    schema
}

/// All of them, by name.
pub(super) fn all() -> Value {
    let network =
        json!({ "type": "string", "enum": ["bitcoin", "testnet", "testnet4", "signet", "regtest"] });
    let grant = [("text", text()), ("signature", text())];
    json!({
        "Document": { "type": "object" },
        "Health": object(&[("status", json!({ "const": "ok" }))]),
        "ServerInfo": object(&[
            ("server", hex(32)),
            ("version", text()),
            ("protocols", list(&number())),
            ("time", number()),
            ("record_max", number()),
        ]),
        "KnownGrants": object(&[("grants", list(&reference("SignedGrant")))]),
        "SignedGrant": object(&grant),
        "AccountGrants": object(&[("floor", number()), ("grants", list(&reference("RememberedGrant")))]),
        "RememberedGrant": object(&[("text", text()), ("signature", text()), ("shown_at", number())]),
        "SignedRevocation": request(&grant, &[]),
        "Receipt": receipt(&network),
        "SignedReceipt": object(&[("receipt", reference("Receipt")), ("signature", hex(64))]),
        "Head": object(&[("epoch", number()), ("seq", number()), ("hash", hex(32))]),
        "Appended": sparse(
            &[
                ("head", reference("Head")),
                ("roll_up", truth()),
                ("quota", reference("Quota")),
                ("removal_at", number()),
            ],
            &["quota", "removal_at"],
        ),
        "Quota": object(&[
            ("bytes", number()),
            ("used", number()),
            ("packs", number()),
            ("most", number()),
            ("level", json!({ "type": "string", "enum": ["within", "near", "overdraft", "exhausted"] })),
        ]),
        "SnapshotInfo": object(&[
            ("snapshot", hex(16)),
            ("base_seq", number()),
            ("base_hash", hex(32)),
            ("committed_at", number()),
            ("bytes", number()),
        ]),
        "SnapshotList": object(&[("snapshots", list(&reference("SnapshotInfo")))]),
        "Proof": object(&[("at", number()), ("seq", number()), ("equal", truth())]),
        "FilesInfo": object(&[("received_at", number()), ("bytes", number())]),
        "ProofReport": request(&[("seq", number()), ("equal", truth())], &[]),
        "SessionOpened": object(&[
            ("token", text()),
            ("expires_in_ms", number()),
            ("account", reference("AccountState")),
        ]),
        "AccountState": object(&[
            ("node", hex(33)),
            ("network", network.clone()),
            ("epoch", number()),
            ("timeline", maybe(&hex(16))),
            ("head", reference("Head")),
            ("head_received_at", maybe(&number())),
            ("writer_since", maybe(&number())),
            ("writer_seen_at", maybe(&number())),
            ("first_seq", number()),
            ("log_bytes", number()),
            ("snapshot", maybe(&reference("SnapshotInfo"))),
            ("roll_up", truth()),
            ("proof", maybe(&reference("Proof"))),
            ("held_since", maybe(&number())),
            ("files", maybe(&reference("FilesInfo"))),
            ("quota", maybe(&reference("Quota"))),
            ("removal_at", maybe(&number())),
            ("restored_since", maybe(&number())),
            ("time", number()),
        ]),
        "SignedOpening": signed_opening(),
        "Opening": opening(&network, &grant),
        "SignedRemoval": request(&grant, &[]),
        "Problem": problem(),
    })
}

fn receipt(network: &Value) -> Value {
    object(&[
        ("version", number()),
        ("server", hex(32)),
        ("node", hex(33)),
        ("network", network.clone()),
        ("timeline", maybe(&hex(16))),
        ("head", reference("Head")),
        ("time", number()),
    ])
}

fn signed_opening() -> Value {
    request(
        &[
            ("opening", reference("Opening")),
            ("signature", hex(64)),
            ("invite", text()),
        ],
        &["invite"],
    )
}

fn opening(network: &Value, grant: &[(&str, Value)]) -> Value {
    let claim = [
        ("instance", hex(16)),
        ("run", hex(16)),
        ("expected_epoch", number()),
        ("epoch", number()),
        ("takeover", truth()),
    ];
    request(
        &[
            ("server", hex(32)),
            ("node", hex(33)),
            ("network", network.clone()),
            ("access_key", hex(32)),
            ("grant", request(grant, &[])),
            ("scope", json!({ "type": "string", "enum": ["append", "read"] })),
            ("writer", request(&claim, &[])),
            ("time", number()),
        ],
        &["grant", "writer"],
    )
}

fn problem() -> Value {
    let codes: Vec<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    let members = [
        (
            "type",
            json!({ "type": "string", "pattern": "^urn:backstop:problem:[a-z_]+$" }),
        ),
        ("title", text()),
        (
            "status",
            json!({ "type": "integer", "minimum": 400, "maximum": 599 }),
        ),
        ("code", json!({ "type": "string", "enum": codes })),
        ("detail", text()),
        ("head", reference("Head")),
        ("epoch", number()),
        ("since", number()),
        (
            "missing",
            json!({ "type": "array", "items": hex(32), "maxItems": MISSING_MAX }),
        ),
    ];
    let mut schema = object(&members);
    if let Value::Object(parts) = &mut schema {
        parts.insert("required".to_owned(), json!(["type", "title", "status", "code"]));
        let about = format!(
            "At most {JSON_MAX} bytes, but for `missing`. New codes may appear: decide by the status of one you do not know."
        );
        parts.insert("description".to_owned(), about.into());
    }
    schema
}
