//! What the server remembers, behind one trait with two databases: a SQLite file, and PostgreSQL.
//!
//! **One method is one transaction.** A method either did all of what it says, durably (I1), or changed nothing.
//! A caller that goes away before the answer does not undo it: writes run to their end.
//! The rules themselves are in [`Account`] and [`judge_grant`], without any SQL, so that every database judges
//! alike; the conformance suite beside this file states each rule once and runs against every database.
//!
//! The caller has checked everything that needs no database: signatures, MACs, formats, limits, hashes.

mod account;
mod act;
mod alarms;
mod cells;
mod devices;
mod error;
mod gauges;
mod grant;
mod group;
pub mod moving;
mod office;
mod opening;
pub mod operator;
mod pages;
pub mod postgres;
mod quota;
mod registration;
mod removal;
mod retention;
mod roll_up;
mod room;
mod scrub;
pub mod sqlite;
mod tenancy;
mod tenants;
mod terms;
mod watch;
mod word;

#[cfg(test)]
pub(crate) mod conformance;

pub use account::{Account, Seat};
pub use act::{Act, Allowed};
pub use alarms::{ALARMS_MAX, Alarm, AlarmStore};
pub use devices::Devices;
pub use error::{Refusal, StoreError};
pub use gauges::{GaugeStore, GroupSizes, NodeGauges, Overview, PoolGauges};
pub use grant::{ShownGrant, judge_grant, judge_remembered};
pub use office::Office;
pub use opening::{SessionRequest, Writer};
pub use pages::{Growth, GrowthPoint, PageStore};
pub use postgres::PostgresStore;
pub use quota::{Ladder, Load, QuotaPolicy, UNLIMITED};
pub use registration::{Admission, Invite, InviteId, InviteToken, Registration, ShownInvite};
pub use removal::{Leaving, RemovalBy, Removing};
pub use retention::{Aged, GRACE_MS, HistoryPolicy, Verdict};
pub use roll_up::{RollUpPolicy, Tail};
pub use scrub::{PackRow, RecordRow, ScrubStore};
pub use sqlite::SqliteStore;
pub use tenancy::Tenancy;
pub use terms::Terms;
pub use watch::{Notice, Told, Watched};
pub use word::{Says, Word};

use async_trait::async_trait;
use backstop_protocol::{
    api::{AccountState, Appended, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    grant::SignedGrant,
    id::{AccessKey, ChunkId, PackId, RecordHash, SnapshotId},
    record::RecordHeader,
    snapshot::{ManifestHeader, SnapshotCommit},
};
use bytes::Bytes;
use std::fmt;

/// Names one (node, network) inside one store; never used again for another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(pub i64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one store; random. Accounts' ids mean something in their own store alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(pub [u8; 16]);

/// A record to be appended. Its header was parsed from `sealed`, whose SHA-256 is `hash`.
#[derive(Clone, Debug)]
pub struct Append {
    /// To which log.
    pub account: AccountId,
    /// Whose session it comes in.
    pub writer: Writer,
    /// Its clear header.
    pub header: RecordHeader,
    /// Its name in the chain.
    pub hash: RecordHash,
    /// The whole record.
    pub sealed: Bytes,
    /// The server's clock.
    pub now: UnixMillis,
}

/// A record as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// When it arrived, by the server's clock.
    pub received_at: UnixMillis,
    /// The whole record.
    pub sealed: Vec<u8>,
}

/// Where a sealed chunk lies in the pack that is being indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    /// The chunk.
    pub id: ChunkId,
    /// Offset of the sealed chunk in the pack, bytes.
    pub offset: u32,
    /// Length of the sealed chunk, bytes.
    pub len: u32,
}

/// A pack that is about to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackArrival {
    /// Whose pack.
    pub account: AccountId,
    /// The pack.
    pub pack: PackId,
    /// Its length.
    pub bytes: u64,
    /// Whether the account's room decides: a client's pack it refuses where there is none, never what the server gathers itself.
    pub judged: bool,
    /// The server's clock.
    pub now: UnixMillis,
}

/// A pack that is durable in the pack store, to be indexed.
#[derive(Clone, Debug)]
pub struct PackIndex {
    /// Whose pack.
    pub account: AccountId,
    /// The pack.
    pub pack: PackId,
    /// Its chunks, no id twice.
    pub chunks: Vec<ChunkEntry>,
    /// The server's clock.
    pub now: UnixMillis,
}

/// How much of a pack is still in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLoad {
    /// The pack.
    pub pack: PackId,
    /// Its length.
    pub bytes: u64,
    /// Bytes of its entries that the index names; above 0.
    pub live: u64,
}

/// Chunks that were copied into another pack, which is durable in the pack store.
#[derive(Clone, Debug)]
pub struct Move {
    /// Whose packs.
    pub account: AccountId,
    /// Where the chunks lay.
    pub from: Vec<PackId>,
    /// Where they lie now.
    pub to: PackId,
    /// The chunks in that pack, no id twice.
    pub chunks: Vec<ChunkEntry>,
    /// The server's clock.
    pub now: UnixMillis,
}

/// A snapshot to be committed. Its header was parsed from the manifest in `commit`.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Whose snapshot.
    pub account: AccountId,
    /// Whose session it comes in.
    pub writer: Writer,
    /// The manifest's clear header.
    pub header: ManifestHeader,
    /// The manifest and the lists of chunks, each sorted, no id twice.
    pub commit: SnapshotCommit,
    /// The server's clock.
    pub now: UnixMillis,
}

/// Sealed files beside the database, to be stored. Their header was parsed.
#[derive(Clone, Debug)]
pub struct PutFiles {
    /// Whose.
    pub account: AccountId,
    /// Whose session they come in.
    pub writer: Writer,
    /// The whole of them.
    pub sealed: Bytes,
    /// The server's clock.
    pub now: UnixMillis,
}

/// A marked pack that is being removed from the pack store. Dropped, it stays marked.
#[async_trait]
pub trait Removal: Send {
    /// Forgets the pack, which is gone from the pack store.
    async fn end(self: Box<Self>) -> Result<(), StoreError>;
}

/// A database of accounts, logs, chunks and snapshots.
///
/// Every method may fail with [`StoreError::Full`] (nothing was changed), [`StoreError::Unavailable`] (try again) and
/// [`StoreError::Failed`]; refusals by rule are [`StoreError::Refused`] with the reasons that the method lists.
/// An account sees its own records, chunks and snapshots only.
#[async_trait]
pub trait Store: AlarmStore + Devices + GaugeStore + PageStore + ScrubStore + Tenancy + 'static {
    /// The store's name, made when the store was made.
    fn id(&self) -> StoreId;

    /// Asks the database for something small; success means that it can answer.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The grants that opened sessions were shown for this key, in whatever account, the highest serial first;
    /// at most 64. Revoked and expired ones are among them.
    async fn grants(&self, access_key: AccessKey) -> Result<Vec<SignedGrant>, StoreError>;

    /// Opens a session (I7). Judges the grant that was shown, or else those remembered for this account and key,
    /// as [`judge_grant`] and [`judge_remembered`] say. One that [`SessionRequest::registers`] makes the account
    /// where there is none and [`Registration::admit`] lets it in. A claim is judged by [`Account::claim`]. Where all is well, remembers the grant.
    ///
    /// Refusals: [`Refusal::GrantMissing`], [`Refusal::GrantRevoked`], [`Refusal::GrantExpired`],
    /// [`Refusal::ScopeInsufficient`]; [`Refusal::NotFound`] for an opening with a good grant to read and no account;
    /// [`Refusal::RegistrationClosed`] for one to append that is not let in;
    /// and those of [`Account::claim`]. A refused opening leaves no trace, not even its grant.
    async fn open_session(&self, request: SessionRequest) -> Result<(AccountId, AccountState), StoreError>;

    /// Raises the serial below which no grant of this account is valid. Never lowers it.
    async fn raise_grant_floor(&self, account: AccountId, floor: u64) -> Result<(), StoreError>;

    /// The account as it stands; one consistent view. `now` becomes its `time`.
    async fn account(&self, account: AccountId, now: UnixMillis) -> Result<AccountState, StoreError>;

    /// Appends one record (I1, I3, I4). Judges by [`Account::place`]. The same bytes again, at the head or anywhere
    /// below it, succeed and change nothing. A record that replaces the head moves it aside with the time and the
    /// epoch of its successor; a snapshot based on the replaced record is listed no more.
    /// Answers with the account's head after the transaction, and whether a roll-up is asked for. Appends of different
    /// callers may commit together; none spoils another.
    ///
    /// Refusals: [`Refusal::Fenced`], [`Refusal::WrongTimeline`], [`Refusal::NotNext`], [`Refusal::QuotaExceeded`].
    async fn append(&self, append: Append) -> Result<Appended, StoreError>;

    /// Records from `from` on, in order, as many as fit in `max_bytes` but at least one where there is one.
    async fn records(
        &self,
        account: AccountId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<StoredRecord>, StoreError>;

    /// Enters a pack before it is stored, so that whatever a crash leaves of it is found again, and so that nobody
    /// removes it for [`GRACE_MS`]. [`StoreError::Unavailable`] while a pack of this name is being removed. Refusal:
    /// [`Refusal::QuotaExceeded`].
    async fn register_pack(&self, arrival: PackArrival) -> Result<(), StoreError>;

    /// Enters the chunks of a registered pack; from then on a snapshot may name them. Again, it changes nothing. A
    /// chunk that is in the index already keeps its first place, and for that the pack there stays as long as this one;
    /// unless that pack [is damaged](ScrubStore::mark_pack). A pack that arrives is damaged no more.
    /// [`StoreError::Unavailable`] where the pack is not registered, or being removed.
    async fn index_pack(&self, index: PackIndex) -> Result<(), StoreError>;

    /// Where chunks lie, in the order asked for; `None` for one that is not there.
    async fn locate(
        &self,
        account: AccountId,
        ids: Vec<ChunkId>,
    ) -> Result<Vec<Option<ChunkPlace>>, StoreError>;

    /// Makes a snapshot complete: in one transaction checks that the session is still the writer's, that the base
    /// is a record of the log, and that every chunk of it is there, and enters it. The same manifest under the
    /// same name again succeeds and changes nothing.
    ///
    /// Refusals: [`Refusal::Fenced`]; [`Refusal::WrongTimeline`]; [`Refusal::NotOnChain`]; [`Refusal::NotFound`]
    /// where the parent is unknown; [`Refusal::ChunksMissing`] with at most
    /// [`backstop_protocol::api::MISSING_MAX`] ids; [`Refusal::BadCommit`] where the name is taken by another
    /// manifest, or the lists are no difference to the parent's.
    async fn commit_snapshot(&self, commit: Commit) -> Result<SnapshotInfo, StoreError>;

    /// The complete snapshots whose base is on the chain, without dropped ones, the highest base first, of equal ones the
    /// latest first.
    async fn snapshots(&self, account: AccountId) -> Result<Vec<SnapshotInfo>, StoreError>;

    /// The sealed manifest of a complete snapshot.
    async fn manifest(&self, account: AccountId, snapshot: SnapshotId)
    -> Result<Option<Vec<u8>>, StoreError>;

    /// Takes in what a writer says of its backup: what a comparison found, by [`Account::prove`]; that what a failed one holds may
    /// go, by [`Account::accept`]; that a roll-up is wished for, by [`Account::order_roll_up`].
    ///
    /// Refusals: [`Refusal::Fenced`], [`Refusal::BadProof`].
    async fn hear(&self, word: Word) -> Result<AccountState, StoreError>;

    /// Accounts above `after`, ascending, at most `most`.
    async fn accounts(&self, after: AccountId, most: usize) -> Result<Vec<AccountId>, StoreError>;

    /// Drops some of what [`HistoryPolicy::judge`] lets go: snapshots, and records below those that stay; replaced
    /// records whose time is over too. So little at once that appends are not held up: `true` where there may be more.
    /// Of an account that is held nothing goes.
    async fn drop_history(
        &self,
        account: AccountId,
        policy: &HistoryPolicy,
        now: UnixMillis,
    ) -> Result<bool, StoreError>;

    /// Drops some of the chunks that no snapshot needs and whose pack did not arrive within [`GRACE_MS`]; `true` where
    /// there may be more. Of an account that is held nothing goes.
    async fn drop_chunks(&self, account: AccountId, now: UnixMillis) -> Result<bool, StoreError>;

    /// Packs that hold chunks, are not damaged and did not arrive within [`GRACE_MS`], the smallest load first.
    async fn pack_loads(&self, account: AccountId, now: UnixMillis) -> Result<Vec<PackLoad>, StoreError>;

    /// The chunks that lie in a pack, by the index.
    async fn chunks_in(&self, account: AccountId, pack: PackId) -> Result<Vec<ChunkId>, StoreError>;

    /// Moves those chunks that still lie in one of the packs to their new place. From then on the old packs are free
    /// of them, but stay for [`GRACE_MS`]. [`StoreError::Unavailable`] where the new pack is not registered, or being
    /// removed.
    async fn move_chunks(&self, chunks: Move) -> Result<(), StoreError>;

    /// Marks packs without chunks as being removed, those that neither arrived nor lost a chunk within [`GRACE_MS`],
    /// and answers all that are marked: also what an earlier process left so.
    async fn begin_removals(&self, account: AccountId, now: UnixMillis) -> Result<Vec<PackId>, StoreError>;

    /// Takes a pack that was marked so, to remove it from the pack store: until the answer is ended or dropped, nobody else
    /// removes it, and nobody stores a pack of its name. `None` where it is marked no more, or somebody else has it.
    async fn hold_removal(
        &self,
        account: AccountId,
        pack: PackId,
    ) -> Result<Option<Box<dyn Removal>>, StoreError>;

    /// Stores a version of the files beside the database. The very bytes of the newest version again change nothing.
    ///
    /// Refusals: [`Refusal::Fenced`].
    async fn put_files(&self, files: PutFiles) -> Result<(), StoreError>;

    /// The files as they were at a time, which is the newest version that had arrived by then; without a time, the
    /// newest.
    async fn files(&self, account: AccountId, at: Option<UnixMillis>) -> Result<Option<Vec<u8>>, StoreError>;

    /// Drops the versions of the files that no time from `before` on asks for: those that another version had followed
    /// by then. The newest version stays, whatever its age. Of an account that is held nothing goes. How many went.
    async fn drop_old_files(&self, account: AccountId, before: UnixMillis) -> Result<u64, StoreError>;

    /// Finishes what was begun, refuses what comes after, and lets go of the database.
    async fn close(&self);
}
