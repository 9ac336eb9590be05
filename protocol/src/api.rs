//! Paths, headers, limits and JSON bodies of the HTTP calls (SPEC 7).
//!
//! | call | session | body | answer |
//! |---|---|---|---|
//! | `GET /v1/health` | | | `{"status":"ok"}` |
//! | `GET /v1/info` | | | [`ServerInfo`] |
//! | `GET /v1/grants/{access_key}` | | | [`KnownGrants`] |
//! | `GET /v1/grants` | read | | [`AccountGrants`] |
//! | `POST /v1/revocations` | read | [`crate::revocation::SignedRevocation`] | [`AccountGrants`] |
//! | `POST /v1/sessions` | | [`crate::session::SignedOpening`] | [`SessionOpened`] |
//! | `GET /v1/head` | read | | [`AccountState`] |
//! | `POST /v1/records` | append | one sealed record | [`Appended`] |
//! | `GET /v1/records?from=SEQ&wait=MS` | read | | frames, see [`parse_frames`] |
//! | `GET /v1/receipt` | read | | [`crate::receipt::SignedReceipt`] |
//! | `POST /v1/chunks/locate` | read | ids | places, see [`crate::chunk`] |
//! | `PUT /v1/packs/{pack}` | append | a pack | empty |
//! | `GET /v1/packs/{pack}?offset=&length=` | read | | bytes of the pack |
//! | `POST /v1/snapshots` | append | [`crate::snapshot::SnapshotCommit`] | [`SnapshotInfo`] |
//! | `GET /v1/snapshots` | read | | [`SnapshotList`] |
//! | `GET /v1/snapshots/{snapshot}/manifest` | read | | a sealed manifest |
//! | `GET /v1/snapshots/{snapshot}/chunks?after=ID` | read | | ids |
//! | `POST /v1/proofs` | append | [`ProofReport`] | [`AccountState`] |
//! | `POST /v1/proofs/accepted` | append | | [`AccountState`] |
//! | `POST /v1/removal` | read | [`crate::removal::SignedRemoval`] | [`AccountState`] |
//! | `PUT /v1/files` | append | sealed files | empty |
//! | `GET /v1/files?at=TIME` | read | | sealed files |

use crate::{
    bytes::{Malformed, Reader},
    clock::UnixMillis,
    grant::SignedGrant,
    head::Head,
    id::{Network, NodeId, RecordHash, ServerKey, SnapshotId, TimelineId},
    quota::Quota,
};
use serde::{Deserialize, Serialize};

/// Authorisation scheme of session requests: `Backstop <token> <counter> <MAC in hex>`.
pub const AUTH_SCHEME: &str = "Backstop";
/// Header of an answer's MAC, hex.
pub const MAC_HEADER: &str = "backstop-mac";
/// Content type of binary bodies.
pub const OCTETS: &str = "application/octet-stream";

/// `GET`: whether the process answers.
pub const HEALTH: &str = "/v1/health";
/// `GET`: what the server is.
pub const INFO: &str = "/v1/info";
/// `GET …/{access_key}`: the grants that the server was shown for a key.
pub const GRANTS: &str = "/v1/grants";
/// `POST`: raises the floor of serials below which no grant is valid.
pub const REVOCATIONS: &str = "/v1/revocations";
/// `POST`: opens a session.
pub const SESSIONS: &str = "/v1/sessions";
/// `GET`: the account's state.
pub const HEAD: &str = "/v1/head";
/// `POST`: append; `GET`: read from a seq.
pub const RECORDS: &str = "/v1/records";
/// `GET`: the head under the server's signature.
pub const RECEIPT: &str = "/v1/receipt";
/// `POST`: where chunks lie, and which are missing.
pub const LOCATE: &str = "/v1/chunks/locate";
/// `PUT` and `GET …/{pack}`.
pub const PACKS: &str = "/v1/packs";
/// `POST`: commit; `GET`: list; `GET …/{snapshot}/manifest` and `…/{snapshot}/chunks`.
pub const SNAPSHOTS: &str = "/v1/snapshots";
/// `POST`: what a comparison of the backup with the node's own database found.
pub const PROOFS: &str = "/v1/proofs";
/// `POST`: lets go of what a comparison that failed holds.
pub const PROOFS_ACCEPTED: &str = "/v1/proofs/accepted";
/// `POST`: asks the server to ask for a roll-up.
pub const ROLL_UP: &str = "/v1/roll-up";
/// `POST`: the node's own word on the removal of its backup.
pub const REMOVAL: &str = "/v1/removal";
/// `PUT` and `GET`: the node's files beside its database, sealed as one.
pub const FILES: &str = "/v1/files";

/// Smallest padded plaintext of a record or manifest, bytes: small batches look alike.
pub const PADDED_MIN: usize = 256;
/// Longest sealed record, bytes. CLN's largest batches, migrations of old nodes, stay far below.
pub const RECORD_MAX: usize = 256 << 20;
/// Longest pack, bytes.
pub const PACK_MAX: usize = 16 << 20;
/// At which length a client closes a pack, bytes.
pub const PACK_TARGET: usize = 8 << 20;
/// Shortest sealed chunk, bytes: nonce, padded minimum, tag.
pub const SEALED_CHUNK_MIN: usize = 24 + PADDED_MIN + 16;
/// Longest sealed chunk, bytes.
pub const SEALED_CHUNK_MAX: usize = 128 << 10;
/// Longest manifest, bytes: the ids of the list chunks of a database of 1 TiB.
pub const MANIFEST_MAX: usize = 8 << 20;
/// Longest body of a snapshot's commit, bytes.
pub const COMMIT_MAX: usize = 256 << 20;
/// Most chunk ids in one `locate`.
pub const LOCATE_MAX: usize = 16_384;
/// Most ids in a problem's `missing`.
pub const MISSING_MAX: usize = 1_000;
/// Most grants that are listed of one account.
pub const ACCOUNT_GRANTS_MAX: usize = 128;
/// Longest JSON body of a request, bytes.
pub const JSON_MAX: usize = 64 << 10;
/// After how many bytes a page of records ends; a longer record comes alone.
pub const RECORD_PAGE: usize = 4 << 20;
/// Longest invitation, bytes.
pub const INVITE_MAX: usize = 128;
/// How old, or how far ahead of the server's clock, a node's word on its removal may be, milliseconds.
pub const REMOVAL_FRESH_MS: u64 = 3_600_000;
/// Most ids in one answer that lists a snapshot's chunks.
pub const CHUNKS_PAGE: usize = 65_536;
/// Longest time for which a call waits for the next record, milliseconds: below what proxies take for a dead connection.
pub const WAIT_MAX_MS: u64 = 25_000;
/// Longest body of sealed files, bytes.
pub const FILES_MAX: usize = 4 << 20;
/// Life of a session's token, milliseconds: a revocation bites within it.
pub const TOKEN_LIFE_MS: u64 = 600_000;

/// Answer of `GET /v1/info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The server's identity, pinned at `setup`.
    pub server: ServerKey,
    /// Version of the program, for people.
    pub version: String,
    /// Versions of the protocol that it speaks.
    pub protocols: Vec<u8>,
    /// The server's clock.
    pub time: UnixMillis,
    /// Longest record that it takes, bytes.
    pub record_max: u64,
}

/// Answer of `GET /v1/grants/{access_key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGrants {
    /// The grants, the highest serial first. Whoever asks checks the signatures himself.
    pub grants: Vec<SignedGrant>,
}

/// Answer of `GET /v1/grants` and `POST /v1/revocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountGrants {
    /// No grant of a lower serial is valid.
    pub floor: u64,
    /// The grants that opened sessions of this account were shown, the highest serial first, at most
    /// [`ACCOUNT_GRANTS_MAX`].
    pub grants: Vec<RememberedGrant>,
}

/// A grant as a server remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedGrant {
    /// Its text.
    pub text: String,
    /// `zbase` of `signmessage`.
    pub signature: String,
    /// When it was first shown, by the server's clock.
    pub shown_at: UnixMillis,
}

/// Answer of `POST /v1/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpened {
    /// Opaque; names the session in every request.
    pub token: String,
    /// How long the token lives from now, milliseconds.
    pub expires_in_ms: u64,
    /// The account after the opening.
    pub account: AccountState,
}

/// What a server says about one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// The node.
    pub node: NodeId,
    /// Its network.
    pub network: Network,
    /// The epoch; 0 where no writer has opened yet.
    pub epoch: u64,
    /// The timeline; absent before the first record.
    pub timeline: Option<TimelineId>,
    /// Where the chain ends.
    pub head: Head,
    /// When the head arrived, by the server's clock.
    pub head_received_at: Option<UnixMillis>,
    /// When the present writer opened, by the server's clock.
    pub writer_since: Option<UnixMillis>,
    /// When the present writer last appended or opened, by the server's clock.
    pub writer_seen_at: Option<UnixMillis>,
    /// The first record that the log still holds; 0 where there is none.
    pub first_seq: u64,
    /// Sealed bytes of the log.
    pub log_bytes: u64,
    /// The newest complete snapshot.
    pub snapshot: Option<SnapshotInfo>,
    /// Whether the server asks for a new snapshot, as in [`Appended`].
    #[serde(default)]
    pub roll_up: bool,
    /// The last comparison that the client reported.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// Since when nothing is dropped, because a comparison failed and nobody has accepted it yet.
    #[serde(default)]
    pub held_since: Option<UnixMillis>,
    /// The newest sealed files beside the database.
    #[serde(default)]
    pub files: Option<FilesInfo>,
    /// The node's room; absent where it has no bounds.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// When everything of this account is removed, because its operator or the node's owner asked for that. Until then
    /// nothing else changes, and either of them may take it back.
    #[serde(default)]
    pub removal_at: Option<UnixMillis>,
    /// Since when the server takes nothing for this node, because its own data were restored from a copy and the node's
    /// owner has not adopted it yet (I7).
    #[serde(default)]
    pub restored_since: Option<UnixMillis>,
    /// The server's clock.
    pub time: UnixMillis,
}

/// What a client found when it compared the state that its backup gives with the node's own database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofReport {
    /// The record after which both stood; at most the head's.
    pub seq: u64,
    /// Whether they were equal, table by table.
    pub equal: bool,
}

/// A comparison as the server remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When it was reported, by the server's clock.
    pub at: UnixMillis,
    /// The record after which both stood.
    pub seq: u64,
    /// Whether they were equal.
    pub equal: bool,
}

/// Sealed files as the server has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesInfo {
    /// When they arrived, by the server's clock.
    pub received_at: UnixMillis,
    /// Their sealed length, bytes.
    pub bytes: u64,
}

/// A complete snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub snapshot: SnapshotId,
    /// The record whose state it holds.
    pub base_seq: u64,
    /// Hash of that record.
    pub base_hash: RecordHash,
    /// When it was committed, by the server's clock.
    pub committed_at: UnixMillis,
    /// Sealed bytes of its chunks.
    pub bytes: u64,
}

/// Answer of `GET /v1/snapshots`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotList {
    /// The complete snapshots, newest first.
    pub snapshots: Vec<SnapshotInfo>,
}

/// Answer of `POST /v1/records`. An answer means that the record is durable (I1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// The account's head.
    pub head: Head,
    /// Whether the server asks for a new snapshot, so that it may drop the log below it.
    pub roll_up: bool,
    /// The node's room, once most of it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// When everything of this account is removed, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal_at: Option<UnixMillis>,
}

/// One page of `GET /v1/records`: each record behind its length (u32) and the time at which the server received it
/// (u64, milliseconds since 1970). An empty page means that there is nothing from that seq on.
pub fn push_frame(out: &mut Vec<u8>, received_at: UnixMillis, sealed: &[u8]) {
    out.extend_from_slice(&u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&received_at.0.to_be_bytes());
    out.extend_from_slice(sealed);
}

/// Reads what [`push_frame`] wrote.
pub fn parse_frames(page: &[u8]) -> Result<Vec<(UnixMillis, &[u8])>, Malformed> {
    let mut reader = Reader::new(page);
    let mut frames = Vec::new();
    while !reader.rest().is_empty() {
        let len = usize::try_from(reader.u32()?).map_err(|_| Malformed::Short)?;
        let received_at = UnixMillis(reader.u64()?);
        frames.push((received_at, reader.take(len)?));
    }
    Ok(frames)
}

/// Answer of `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, where the store answers.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_records_is_read_as_it_was_written_and_a_cut_one_is_refused() {
        let mut page = Vec::new();
        push_frame(&mut page, UnixMillis(5), b"one");
        push_frame(&mut page, UnixMillis(6), b"");
        let want: Vec<(UnixMillis, &[u8])> = vec![(UnixMillis(5), b"one"), (UnixMillis(6), b"")];
        assert_eq!(parse_frames(&page), Ok(want));
        assert_eq!(parse_frames(&page[..page.len() - 1]), Err(Malformed::Short));
        assert_eq!(parse_frames(&[]), Ok(vec![]));
    }
}
