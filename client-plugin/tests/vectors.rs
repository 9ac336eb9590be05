//! Runs SPEC's test vectors that take a client's keys.

use backstop::{
    cln::{HsmSecret, hsm_secret::HsmSecretError},
    files::{BadFiles, Files},
    keys::{Keys, RecoveryKey, Root, recovery_key::BadRecoveryKey},
    record::{Content, OpenError, Opener, Require, padding::padded},
    snapshot::{
        BadManifest, Manifest,
        chunk::{BadChunk, Chunker},
    },
};
use backstop_protocol::{chunk::ChunkKind, id::ChunkId};
use backstop_testvectors::{Runner, Vector, vectors};
use std::sync::Arc;

/// The failure's name, or what is to be compared with the vector.
type Outcome = Result<Vec<(&'static str, String)>, String>;

#[test]
fn every_vector_does_what_it_says() {
    let mut wrong = Vec::new();
    for mut vector in vectors(Runner::Client) {
        let outcome = match vector.kind.as_str() {
            "hsm-secret" => hsm_secret(&mut vector),
            "recovery-key" => recovery_key(&mut vector),
            "keys" => Ok(keys(&mut vector)),
            "padding" => Ok(padding(&mut vector)),
            "record-content" => record_content(&mut vector),
            "chunk" => chunk(&mut vector),
            "manifest-content" => manifest_content(&mut vector),
            "files-content" => files_content(&mut vector),
            other => panic!("{}: nothing here runs the kind {other}", vector.name),
        };
        wrong.extend(vector.judge(outcome).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn hsm_secret(vector: &mut Vector) -> Outcome {
    let (mut file, words) = (vector.bytes("file"), vector.optional("words"));
    file.extend_from_slice(words.unwrap_or_default().as_bytes());
    let passphrase = vector.optional("passphrase");
    let (network, generation) = (vector.number("network"), vector.number("generation"));
    let info = vector.text("makesecret");
    let secret = HsmSecret::parse(&file)
        .and_then(|file| file.unlock(passphrase.as_deref()))
        .map_err(|why| hsm_secret_failure(&why).to_owned())?;
    let root = secret.backstop_root(network, generation);
    Ok(vec![
        ("node", secret.node_id().to_string()),
        ("secret", hex::encode(*secret.makesecret(info.as_bytes()))),
        ("root", hex::encode(root.expose_bytes())),
    ])
}

fn hsm_secret_failure(why: &HsmSecretError) -> &'static str {
    match why {
        HsmSecretError::Io { .. } => "io",
        HsmSecretError::Length(_) => "length",
        HsmSecretError::Words(_) => "words",
        HsmSecretError::Spelling => "spelling",
        HsmSecretError::PassphraseNeeded => "passphrase needed",
        HsmSecretError::PassphraseNotNeeded => "passphrase not needed",
        HsmSecretError::WrongPassphrase => "wrong passphrase",
        HsmSecretError::Memory => "memory",
    }
}

fn recovery_key(vector: &mut Vector) -> Outcome {
    let key = RecoveryKey::parse(&vector.text("text")).map_err(|why| {
        let name = match why {
            BadRecoveryKey::Start => "start",
            BadRecoveryKey::Character { .. } => "character",
            BadRecoveryKey::Length(_) => "length",
            BadRecoveryKey::Checksum => "checksum",
            BadRecoveryKey::Unknown => "unknown",
        };
        name.to_owned()
    })?;
    Ok(vec![
        ("network", key.network.to_string()),
        ("root", hex::encode(key.root.expose_bytes())),
        (
            "written",
            RecoveryKey::to_text(key.network, &key.root).to_string(),
        ),
    ])
}

fn node_keys(vector: &mut Vector) -> Arc<Keys> {
    Arc::new(Keys::derive(&Root::from_bytes(vector.array("root"))))
}

fn keys(vector: &mut Vector) -> Vec<(&'static str, String)> {
    let keys = node_keys(vector);
    vec![
        ("record", hex::encode(keys.record.expose_bytes())),
        ("chunk", hex::encode(keys.chunk.expose_bytes())),
        ("chunk_id", hex::encode(keys.chunk_id.expose_bytes())),
        ("manifest", hex::encode(keys.manifest.expose_bytes())),
        ("files", hex::encode(keys.files.expose_bytes())),
        ("access", keys.access.access_key().to_string()),
    ]
}

fn padding(vector: &mut Vector) -> Vec<(&'static str, String)> {
    vec![("padded", padded(vector.number("length")).to_string())]
}

/// `before`, where it is there, is the record that a reader handled just before.
fn record_content(vector: &mut Vector) -> Outcome {
    fn name(why: OpenError) -> String {
        match why {
            OpenError::Malformed(why) => why.name(),
            OpenError::BadSeal => "seal",
            OpenError::ContextMissing { .. } => "context missing",
            _ => "too long",
        }
        .to_owned()
    }
    let keys = node_keys(vector);
    let mut opener = Opener::new(&keys.record);
    if vector.has("before") {
        opener.open(&vector.bytes("before")).map_err(name)?;
    }
    let (_, content) = opener.open(&vector.bytes("sealed")).map_err(name)?;
    let mut outcome = vec![
        ("run", content.run().to_string()),
        ("opens_run", content.opens_run().to_string()),
    ];
    match content {
        Content::Batch(batch) => {
            let statements: Vec<_> = batch
                .statements
                .iter()
                .map(|sql| sql.escape_ascii().to_string())
                .collect();
            outcome.extend([
                ("outside_transaction", batch.outside_transaction.to_string()),
                ("data_version", batch.data_version.to_string()),
                ("statements", statements.join(" | ")),
            ]);
        }
        Content::Gap(gap) => outcome.extend([
            ("data_version", gap.data_version.to_string()),
            ("snapshot", gap.snapshot.to_string()),
        ]),
        Content::Policy(policy) => {
            let require = match policy.require {
                Require::All => "all",
                Require::Majority => "majority",
            };
            let servers: Vec<_> = policy
                .servers
                .iter()
                .map(|s| format!("{}={}", s.url, s.key))
                .collect();
            outcome.extend([
                ("require", require.to_owned()),
                ("servers", servers.join(" ")),
                ("spool", policy.spool_seconds.to_string()),
                ("by", policy.by),
            ]);
        }
    }
    Ok(outcome)
}

fn chunk(vector: &mut Vector) -> Outcome {
    let keys = node_keys(vector);
    let kind = match vector.text("chunk_kind").as_str() {
        "data" => ChunkKind::Data,
        "list" => ChunkKind::List,
        other => panic!("{}: no chunk is {other}", vector.name),
    };
    let (id, sealed, len) = (
        vector.array("id"),
        vector.bytes("sealed"),
        vector.number("length"),
    );
    let opened = Chunker::new(&keys).open(kind, ChunkId(id), &sealed, len);
    let plaintext = opened.map_err(|why| {
        let name = match &why {
            BadChunk::Seal => "seal",
            BadChunk::Malformed(why) => why.name(),
            BadChunk::Id => "id",
            BadChunk::Len { .. } => "length",
        };
        name.to_owned()
    })?;
    Ok(vec![("plaintext", hex::encode(plaintext))])
}

fn manifest_content(vector: &mut Vector) -> Outcome {
    let keys = node_keys(vector);
    let opened = Manifest::open(&keys.manifest, &vector.bytes("sealed"));
    let manifest = opened.map_err(|why| {
        let name = match &why {
            BadManifest::Seal => "seal",
            BadManifest::Malformed(why) => why.name(),
        };
        name.to_owned()
    })?;
    let lists: Vec<_> = manifest.lists.iter().map(ToString::to_string).collect();
    Ok(vec![
        ("data_version", manifest.data_version.to_string()),
        ("database_len", manifest.database_len.to_string()),
        ("policy", hex::encode(manifest.policy.unwrap_or_default())),
        ("lists", lists.join(" ")),
    ])
}

fn files_content(vector: &mut Vector) -> Outcome {
    let keys = node_keys(vector);
    let opened = Files::open(&keys.files, &vector.bytes("sealed"));
    let found = opened.map_err(|why| {
        let name = match &why {
            BadFiles::Seal => "seal",
            BadFiles::Malformed(why) => why.name(),
        };
        name.to_owned()
    })?;
    let files: Vec<_> = found
        .files
        .iter()
        .map(|file| format!("{}={}", file.name, hex::encode(&file.bytes)))
        .collect();
    Ok(vec![
        ("read_at", found.read_at.0.to_string()),
        ("files", files.join(" ")),
    ])
}
