//! What a mirror lets go of: by its own setting alone, whatever the server dropped. The newest snapshot on the chain, and the
//! log from its base on, always stay.

use super::{Index, Mirror, MirrorError, index::int};
use backstop_protocol::{clock::UnixMillis, id::PackId};
use rusqlite::{OptionalExtension as _, params};

const DAY_MS: u64 = 86_400_000;

impl Mirror {
    /// Lets go of what is over, by the setting `keep_days`: superseded snapshots with the log below the oldest that stays,
    /// what was set aside, older versions of the files; then of the packs that no snapshot needs any more.
    pub fn sweep(&self, now: UnixMillis) -> Result<(), MirrorError> {
        let keep = u64::from(self.config.keep_days).saturating_mul(DAY_MS);
        let before = UnixMillis(now.0.saturating_sub(keep));
        self.index().forget(before)?;
        let packs = self.index().unneeded_packs()?;
        for pack in packs {
            // The row last: a crash in between leaves a row, and the next sweep ends it.
            self.packs.remove(pack)?;
            self.index().forget_pack(pack)?;
        }
        Ok(())
    }
}

impl Index {
    /// Drops what was superseded or set aside before this time, in one transaction.
    fn forget(&mut self, before: UnixMillis) -> Result<(), MirrorError> {
        let transaction = self.db.transaction()?;
        let over = "superseded_at IS NOT NULL AND superseded_at < ?
            AND snapshot <> (SELECT max(snapshot) FROM snapshots)";
        transaction.execute(
            &format!(
                "DELETE FROM snapshot_chunks WHERE snapshot IN (SELECT snapshot FROM snapshots WHERE {over})"
            ),
            [int(before.0)],
        )?;
        transaction.execute(&format!("DELETE FROM snapshots WHERE {over}"), [int(before.0)])?;
        // A base that is no record of the chain is no reason to keep anything, nor to drop.
        let oldest: Option<i64> = transaction
            .query_row(
                "SELECT min(snapshots.base_seq) FROM snapshots, chain
                 JOIN records ON records.seq = snapshots.base_seq AND records.hash = snapshots.base_hash
                 WHERE snapshots.timeline = chain.timeline",
                [],
                |row| row.get(0),
            )
            .optional()?
            .flatten();
        if let Some(oldest) = oldest {
            transaction.execute("DELETE FROM records WHERE seq < ?", [oldest])?;
            transaction.execute("UPDATE chain SET first_seq = max(first_seq, ?)", [oldest])?;
        }
        transaction.execute("DELETE FROM aside WHERE aside_at < ?", [int(before.0)])?;
        transaction.execute(
            "DELETE FROM files WHERE EXISTS (
                SELECT 1 FROM files AS later WHERE later.version > files.version AND later.stored_at < ?
             )",
            [int(before.0)],
        )?;
        transaction.execute(
            "DELETE FROM chunks WHERE NOT EXISTS (SELECT 1 FROM snapshot_chunks WHERE snapshot_chunks.chunk = chunks.chunk)",
            [],
        )?;
        Ok(transaction.commit()?)
    }

    /// Packs that hold nothing that a snapshot needs.
    fn unneeded_packs(&self) -> Result<Vec<PackId>, MirrorError> {
        let mut statement = self.db.prepare(
            "SELECT id FROM packs WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.pack = packs.pack)",
        )?;
        let rows = statement.query_map([], |row| row.get(0).map(PackId))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn forget_pack(&self, pack: PackId) -> Result<(), MirrorError> {
        self.db
            .execute("DELETE FROM packs WHERE id = ?", params![pack.0])?;
        Ok(())
    }
}
