//! The index: everything of a mirror that is small, in one SQLite file. One method that writes is one transaction, flushed
//! before it returns, so that a crash at any point leaves a mirror that goes on from where it was.

use super::MirrorError;
use backstop_protocol::{
    api::SnapshotInfo,
    chunk::ChunkPlace,
    clock::UnixMillis,
    head::Head,
    id::{ChunkId, PackId, RecordHash, SnapshotId, TimelineId},
    record::RecordHeader,
};
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Transaction, params};
use std::{path::Path, time::Duration};

/// "BKSM", so that no other program takes the file for its own.
const APPLICATION: i64 = 0x424b_534d;
/// Version of the tables.
const VERSION: i64 = 1;
const TABLES: &str = include_str!("index.sql");
/// How long to wait while another process reads.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// How far a mirror is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The history that it follows; `None` before the first record.
    pub timeline: Option<TimelineId>,
    /// The first record of the log that it holds without a hole; one above the head where there is none.
    pub first_seq: u64,
    /// The last record that it holds.
    pub head: Head,
    /// When the server received that, by its clock.
    pub head_received_at: Option<UnixMillis>,
    /// When the server last confirmed all of it, by this device's clock.
    pub heard_at: Option<UnixMillis>,
}

/// A record that was found to continue the chain.
pub(super) struct Link {
    pub(super) header: RecordHeader,
    pub(super) hash: RecordHash,
    pub(super) received_at: UnixMillis,
    pub(super) sealed: Bytes,
}

/// The index, open.
pub struct Index {
    pub(super) db: Connection,
}

impl Index {
    /// Opens one that is there. What a crash left half done is undone.
    pub fn open(path: &Path) -> Result<Self, MirrorError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::prepare(Connection::open_with_flags(path, flags)?, path)
    }

    /// The same; makes one where there is none.
    pub fn create(path: &Path) -> Result<Self, MirrorError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags)?;
        if number(&db, "PRAGMA application_id")? == 0 && number(&db, "PRAGMA user_version")? == 0 {
            let begun = db.transaction()?;
            begun.execute_batch(TABLES)?;
            begun.pragma_update(None, "application_id", APPLICATION)?;
            begun.pragma_update(None, "user_version", VERSION)?;
            begun.commit()?;
        }
        Self::prepare(db, path)
    }

    fn prepare(db: Connection, path: &Path) -> Result<Self, MirrorError> {
        db.busy_timeout(BUSY_WAIT)?;
        // One file and no other once a transaction is over: it can be copied. EXTRA flushes the directory too, where the
        // end of the journal is the commit.
        db.pragma_update(None, "journal_mode", "TRUNCATE")?;
        db.pragma_update(None, "synchronous", "EXTRA")?;
        db.pragma_update(None, "foreign_keys", true)?;
        let is = (
            number(&db, "PRAGMA application_id")?,
            number(&db, "PRAGMA user_version")?,
        );
        if is == (APPLICATION, VERSION) {
            Ok(Self { db })
        } else {
            Err(MirrorError::Bad {
                path: path.to_owned(),
                reason: "it is no mirror's index, or of a newer version than this program".to_owned(),
            })
        }
    }

    /// How far the mirror is.
    pub fn state(&self) -> Result<State, MirrorError> {
        let read = |row: &Row<'_>| {
            Ok(State {
                timeline: row.get::<_, Option<[u8; 16]>>(0)?.map(TimelineId),
                first_seq: unsigned(row, 1)?,
                head: head(row, 2)?,
                head_received_at: time(row, 5)?,
                heard_at: time(row, 6)?,
            })
        };
        Ok(self.db.query_row(
            "SELECT timeline, first_seq, head_epoch, head_seq, head_hash, head_received_at, heard_at FROM chain",
            [],
            read,
        )?)
    }

    /// The server confirmed all that is here.
    pub(super) fn heard(&self, now: UnixMillis) -> Result<(), MirrorError> {
        self.db.execute("UPDATE chain SET heard_at = ?", [int(now.0)])?;
        Ok(())
    }

    /// Begins to follow a history from this record on. What was followed before is set aside.
    pub(super) fn begin(
        &mut self,
        timeline: TimelineId,
        first_seq: u64,
        prev: RecordHash,
        now: UnixMillis,
    ) -> Result<(), MirrorError> {
        let transaction = self.db.transaction()?;
        set_aside(&transaction, 0, now)?;
        transaction.execute(
            "UPDATE chain SET timeline = ?, first_seq = ?, head_epoch = 0, head_seq = ?, head_hash = ?, head_received_at = NULL",
            params![timeline.0, int(first_seq), int(first_seq) - 1, prev.0],
        )?;
        Ok(transaction.commit()?)
    }

    /// Sets aside what is above this record, which is held: the server's chain went on from there otherwise.
    pub(super) fn cut_back(&mut self, to: u64, now: UnixMillis) -> Result<(), MirrorError> {
        let transaction = self.db.transaction()?;
        set_aside(&transaction, to, now)?;
        transaction.execute(
            "UPDATE chain SET (head_epoch, head_seq, head_hash, head_received_at) =
                (SELECT epoch, seq, hash, received_at FROM records WHERE seq = ?)",
            [int(to)],
        )?;
        Ok(transaction.commit()?)
    }

    /// Appends records, the first of which follows the head.
    pub(super) fn append(&mut self, links: &[Link], now: UnixMillis) -> Result<(), MirrorError> {
        let Some(last) = links.last() else { return Ok(()) };
        let transaction = self.db.transaction()?;
        let mut insert = transaction.prepare(
            "INSERT INTO records (seq, epoch, kind, hash, received_at, sealed) VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        for link in links {
            insert.execute(params![
                int(link.header.seq),
                int(link.header.epoch),
                link.header.kind as u8,
                link.hash.0,
                int(link.received_at.0),
                link.sealed.as_ref(),
            ])?;
        }
        drop(insert);
        let head = last.header.head(last.hash);
        transaction.execute(
            "UPDATE chain SET head_epoch = ?, head_seq = ?, head_hash = ?, head_received_at = ?, heard_at = ?",
            params![
                int(head.epoch),
                int(head.seq),
                head.hash.0,
                int(last.received_at.0),
                int(now.0)
            ],
        )?;
        Ok(transaction.commit()?)
    }

    /// The hash of a record that is held.
    pub(super) fn hash_at(&self, seq: u64) -> Result<Option<RecordHash>, MirrorError> {
        let found = self
            .db
            .query_row("SELECT hash FROM records WHERE seq = ?", [int(seq)], |row| {
                row.get::<_, [u8; 32]>(0)
            });
        Ok(found.optional()?.map(RecordHash))
    }

    /// The last record after which the database went on outside the log; 0 where there is none.
    pub(super) fn last_gap(&self, kind: u8) -> Result<u64, MirrorError> {
        let found: Option<i64> =
            self.db
                .query_row("SELECT max(seq) FROM records WHERE kind = ?", [kind], |row| {
                    row.get(0)
                })?;
        Ok(found.and_then(|seq| u64::try_from(seq).ok()).unwrap_or_default())
    }

    /// Records from `from` on, at most `most` bytes of them, but at least one where there is one.
    pub(super) fn records(&self, from: u64, most: usize) -> Result<Vec<(UnixMillis, Bytes)>, MirrorError> {
        let mut statement = self
            .db
            .prepare("SELECT received_at, sealed FROM records WHERE seq >= ? ORDER BY seq")?;
        let mut rows = statement.query([int(from)])?;
        let (mut page, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let sealed: Vec<u8> = row.get(1)?;
            bytes += sealed.len();
            if bytes > most && !page.is_empty() {
                break;
            }
            page.push((time(row, 0)?.unwrap_or_default(), Bytes::from(sealed)));
        }
        Ok(page)
    }

    /// Those of the chunks that are not held.
    pub(super) fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, MirrorError> {
        let mut held = self.db.prepare("SELECT 1 FROM chunks WHERE id = ?")?;
        let mut missing = Vec::new();
        for id in ids {
            if !held.exists([id.0])? {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    /// Where a chunk lies.
    pub(super) fn place(&self, id: ChunkId) -> Result<Option<ChunkPlace>, MirrorError> {
        let mut statement = self.db.prepare(
            "SELECT packs.id, chunks.offset, chunks.len FROM chunks JOIN packs USING (pack) WHERE chunks.id = ?",
        )?;
        let place = statement.query_row([id.0], |row| {
            Ok(ChunkPlace {
                pack: PackId(row.get(0)?),
                offset: row.get(1)?,
                len: row.get(2)?,
            })
        });
        Ok(place.optional()?)
    }

    /// Enters a pack whose file is durable, with those of its chunks that have no place yet.
    pub(super) fn add_pack(
        &mut self,
        pack: PackId,
        chunks: &[(ChunkId, u32, u32)],
    ) -> Result<(), MirrorError> {
        let transaction = self.db.transaction()?;
        transaction.execute("INSERT OR IGNORE INTO packs (id) VALUES (?)", [pack.0])?;
        let row: i64 =
            transaction.query_row("SELECT pack FROM packs WHERE id = ?", [pack.0], |row| row.get(0))?;
        let mut insert = transaction
            .prepare("INSERT OR IGNORE INTO chunks (id, pack, offset, len) VALUES (?, ?, ?, ?)")?;
        for (id, offset, len) in chunks {
            insert.execute(params![id.0, row, offset, len])?;
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    /// Whether a snapshot is held.
    pub(super) fn has_snapshot(&self, snapshot: SnapshotId) -> Result<bool, MirrorError> {
        Ok(self.db.query_row(
            "SELECT EXISTS (SELECT 1 FROM snapshots WHERE id = ?)",
            [snapshot.0],
            |row| row.get(0),
        )?)
    }

    /// Enters a snapshot, all of whose chunks are held; those of lower bases are superseded by it.
    pub(super) fn add_snapshot(
        &mut self,
        info: &SnapshotInfo,
        timeline: TimelineId,
        manifest: &[u8],
        chunks: &[ChunkId],
        now: UnixMillis,
    ) -> Result<(), MirrorError> {
        let transaction = self.db.transaction()?;
        transaction.execute(
            "UPDATE snapshots SET superseded_at = ? WHERE superseded_at IS NULL AND (timeline <> ? OR base_seq <= ?)",
            params![int(now.0), timeline.0, int(info.base_seq)],
        )?;
        transaction.execute(
            "INSERT INTO snapshots (id, timeline, base_seq, base_hash, committed_at, bytes, manifest) VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                info.snapshot.0,
                timeline.0,
                int(info.base_seq),
                info.base_hash.0,
                int(info.committed_at.0),
                int(info.bytes),
                manifest
            ],
        )?;
        let row = transaction.last_insert_rowid();
        let mut insert = transaction.prepare(
            "INSERT INTO snapshot_chunks (snapshot, chunk) SELECT ?, chunk FROM chunks WHERE id = ?",
        )?;
        for id in chunks {
            if insert.execute(params![row, id.0])? != 1 {
                return Err(MirrorError::Chunks);
            }
        }
        drop(insert);
        Ok(transaction.commit()?)
    }

    /// The snapshots of a history, the highest base first.
    pub(super) fn snapshots(&self, timeline: TimelineId) -> Result<Vec<SnapshotInfo>, MirrorError> {
        let mut statement = self.db.prepare(
            "SELECT id, base_seq, base_hash, committed_at, bytes FROM snapshots WHERE timeline = ?
             ORDER BY base_seq DESC, snapshot DESC",
        )?;
        let rows = statement.query_map([timeline.0], |row| {
            Ok(SnapshotInfo {
                snapshot: SnapshotId(row.get(0)?),
                base_seq: unsigned(row, 1)?,
                base_hash: RecordHash(row.get(2)?),
                committed_at: time(row, 3)?.unwrap_or_default(),
                bytes: unsigned(row, 4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A snapshot's sealed manifest.
    pub(super) fn manifest(&self, snapshot: SnapshotId) -> Result<Option<Vec<u8>>, MirrorError> {
        let found = self.db.query_row(
            "SELECT manifest FROM snapshots WHERE id = ?",
            [snapshot.0],
            |row| row.get(0),
        );
        Ok(found.optional()?)
    }
}

/// Moves the records above `from` out of the chain's way.
fn set_aside(transaction: &Transaction<'_>, from: u64, now: UnixMillis) -> Result<(), MirrorError> {
    transaction.execute(
        "INSERT INTO aside (timeline, seq, epoch, hash, received_at, aside_at, sealed)
         SELECT chain.timeline, seq, epoch, hash, received_at, ?, sealed FROM records, chain WHERE seq > ? ORDER BY seq",
        params![int(now.0), int(from)],
    )?;
    transaction.execute("DELETE FROM records WHERE seq > ?", [int(from)])?;
    Ok(())
}

/// A number of ours as SQLite keeps it. Seqs, epochs and times stay far below its limit; what does not is the largest.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<UnixMillis>> {
    match row.get::<_, Option<i64>>(column)? {
        None => Ok(None),
        Some(_) => unsigned(row, column).map(UnixMillis).map(Some),
    }
}

fn head(row: &Row<'_>, first: usize) -> rusqlite::Result<Head> {
    Ok(Head {
        epoch: unsigned(row, first)?,
        seq: unsigned(row, first + 1)?,
        hash: RecordHash(row.get(first + 2)?),
    })
}

fn number(db: &Connection, ask: &str) -> rusqlite::Result<i64> {
    db.query_row(ask, [], |row| row.get(0))
}
