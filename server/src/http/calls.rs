//! All calls of the API, each with what it takes and gives: the routes and the document that describes them are both made of
//! this list, so that neither has what the other lacks.

use super::{
    App, chunks, files, grants, openapi, packs, proofs, receipts, records, removal, server, sessions,
    snapshots,
};
use axum::routing::{MethodRouter, get, post, put};
use backstop_protocol::api;
use std::sync::Arc;

/// Where the description of the API is.
pub(super) const OPENAPI: &str = "/openapi.json";

/// Which session a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// None.
    Nothing,
    /// Any.
    Read,
    /// One that may append.
    Append,
}

/// What travels in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// No body.
    Nothing,
    /// JSON of a schema of this name.
    Json(&'static str),
    /// Bytes, of a format of SPEC, at most so many.
    Octets(&'static str, usize),
}

/// A number in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) about: &'static str,
}

/// One method of one path.
pub(super) struct Call {
    /// In small letters, as the document has it.
    pub(super) method: &'static str,
    /// The path's template.
    pub(super) path: String,
    /// Its name in the document.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) asks: Asks,
    pub(super) query: &'static [Field],
    pub(super) body: Content,
    pub(super) answer: Content,
    pub(super) handler: MethodRouter<Arc<App>>,
}

impl Call {
    fn new(
        method: &'static str,
        path: impl Into<String>,
        name: &'static str,
        about: &'static str,
        answer: Content,
        handler: MethodRouter<Arc<App>>,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            name,
            about,
            asks: Asks::Nothing,
            query: &[],
            body: Content::Nothing,
            answer,
            handler,
        }
    }

    fn read(self) -> Self {
        Self {
            asks: Asks::Read,
            ..self
        }
    }

    fn append(self) -> Self {
        Self {
            asks: Asks::Append,
            ..self
        }
    }

    fn takes(self, body: Content) -> Self {
        Self { body, ..self }
    }

    fn query(self, query: &'static [Field]) -> Self {
        Self { query, ..self }
    }
}

const FROM: &[Field] = &[
    Field {
        name: "from",
        required: true,
        about: "The first seq of the page.",
    },
    Field {
        name: "wait",
        required: false,
        about: "How long to wait for a record, milliseconds, where there is none yet.",
    },
];
const AFTER: &[Field] = &[Field {
    name: "after",
    required: false,
    about: "The last id of the page before.",
}];
const PART: &[Field] = &[
    Field {
        name: "offset",
        required: false,
        about: "Where the part begins; goes with length.",
    },
    Field {
        name: "length",
        required: false,
        about: "How long the part is, not 0; goes with offset.",
    },
];
const AT: &[Field] = &[Field {
    name: "at",
    required: false,
    about: "The newest version that had arrived at this time.",
}];

/// Every call.
#[rustfmt::skip]
pub(super) fn calls() -> Vec<Call> {
    use Content::{Json, Nothing, Octets};
    let grants = format!("{}/{{access_key}}", api::GRANTS);
    let pack = format!("{}/{{pack}}", api::PACKS);
    let manifest = format!("{}/{{snapshot}}/manifest", api::SNAPSHOTS);
    let chunks = format!("{}/{{snapshot}}/chunks", api::SNAPSHOTS);
    let locate = api::LOCATE_MAX * backstop_protocol::id::ChunkId::LEN;
    vec![
        Call::new("get", OPENAPI, "describe", "This document.", Json("Document"), get(openapi::document)),
        Call::new("get", api::HEALTH, "health", "Whether the server can answer.", Json("Health"), get(server::health)),
        Call::new("get", api::INFO, "info", "What the server is.", Json("ServerInfo"), get(server::info)),
        Call::new("get", grants, "grants", "The grants that the server was shown for a key.", Json("KnownGrants"), get(sessions::grants)),
        Call::new("get", api::GRANTS, "account_grants", "The grants that the account was shown.", Json("AccountGrants"), get(grants::list)).read(),
        Call::new("post", api::REVOCATIONS, "revoke", "Raises the floor of serials (SPEC 4.6).", Json("AccountGrants"), post(grants::revoke))
            .read().takes(Json("SignedRevocation")),
        Call::new("post", api::SESSIONS, "open", "Opens a session (SPEC 4.3).", Json("SessionOpened"), post(sessions::open))
            .takes(Json("SignedOpening")),
        Call::new("get", api::HEAD, "head", "The account's state.", Json("AccountState"), get(records::head)).read(),
        Call::new("post", api::RECORDS, "append", "Appends one sealed record (SPEC 5).", Json("Appended"), post(records::append))
            .append().takes(Octets("A sealed record.", api::RECORD_MAX)),
        Call::new("get", api::RECORDS, "records", "A page of records (SPEC 7.2).", Octets("Frames.", api::RECORD_MAX + 12), get(records::page))
            .read().query(FROM),
        Call::new("get", api::RECEIPT, "receipt", "What the server holds, signed (SPEC 7.6).", Json("SignedReceipt"), get(receipts::sign)).read(),
        Call::new("post", api::LOCATE, "locate", "Where chunks lie (SPEC 6.2).", Octets("Places.", api::LOCATE_MAX * 41), post(chunks::locate))
            .read().takes(Octets("Chunk ids, 32 bytes each.", locate)),
        Call::new("put", pack.clone(), "store_pack", "Stores a pack (SPEC 6.2).", Octets("Nothing.", 0), put(packs::store))
            .append().takes(Octets("A pack.", api::PACK_MAX)),
        Call::new("get", pack, "fetch_pack", "A pack, or a part of one.", Octets("Bytes of the pack.", api::PACK_MAX), get(packs::fetch))
            .read().query(PART),
        Call::new("post", api::SNAPSHOTS, "commit", "Makes a snapshot complete (SPEC 6.4).", Json("SnapshotInfo"), post(snapshots::commit))
            .append().takes(Octets("A commit.", api::COMMIT_MAX)),
        Call::new("get", api::SNAPSHOTS, "snapshots", "The complete snapshots.", Json("SnapshotList"), get(snapshots::list)).read(),
        Call::new("get", manifest, "manifest", "A sealed manifest (SPEC 6.3).", Octets("A manifest.", api::MANIFEST_MAX), get(snapshots::manifest)).read(),
        Call::new("get", chunks, "snapshot_chunks", "A page of a snapshot's chunks.", Octets("Chunk ids, ascending.", api::CHUNKS_PAGE * backstop_protocol::id::ChunkId::LEN), get(snapshots::chunks))
            .read().query(AFTER),
        Call::new("post", api::PROOFS, "prove", "Reports what a comparison found.", Json("AccountState"), post(proofs::report))
            .append().takes(Json("ProofReport")),
        Call::new("post", api::PROOFS_ACCEPTED, "accept", "Lets go of what a failed comparison holds.", Json("AccountState"), post(proofs::accept))
            .append().takes(Nothing),
        Call::new("post", api::ROLL_UP, "roll_up", "Asks for a roll-up, as the operator may.", Json("AccountState"), post(proofs::roll_up))
            .append().takes(Nothing),
        Call::new("post", api::REMOVAL, "remove", "The owner's word on the removal of a backup (SPEC 4.5).", Json("AccountState"), post(removal::ask))
            .read().takes(Json("SignedRemoval")),
        Call::new("get", api::FILES, "fetch_files", "The files beside the database (SPEC 6.7).", Octets("Sealed files.", api::FILES_MAX), get(files::fetch))
            .read().query(AT),
        Call::new("put", api::FILES, "store_files", "Stores a version of the files beside the database.", Octets("Nothing.", 0), put(files::store))
            .append().takes(Octets("Sealed files.", api::FILES_MAX)),
    ]
}
