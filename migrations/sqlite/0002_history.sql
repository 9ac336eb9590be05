-- Roll-ups, proofs, and what goes when its time is over.

-- The log above the newest snapshot on the chain: what a roll-up is decided by stands in the account's one row too.
ALTER TABLE accounts ADD COLUMN tail_bytes INTEGER NOT NULL DEFAULT 0 CHECK (tail_bytes >= 0);
ALTER TABLE accounts ADD COLUMN tail_records INTEGER NOT NULL DEFAULT 0 CHECK (tail_records >= 0);
ALTER TABLE accounts ADD COLUMN tail_since INTEGER CHECK (tail_since >= 0);              -- when its oldest record arrived
ALTER TABLE accounts ADD COLUMN snapshot_bytes INTEGER NOT NULL DEFAULT 0 CHECK (snapshot_bytes >= 0); -- the newest's
ALTER TABLE accounts ADD COLUMN roll_up_ordered_at INTEGER CHECK (roll_up_ordered_at >= 0); -- by hand; a commit clears it

-- The last comparison of the backup with the node's own database, and since when a failed one holds everything.
ALTER TABLE accounts ADD COLUMN proof_at INTEGER CHECK (proof_at >= 0);
ALTER TABLE accounts ADD COLUMN proof_seq INTEGER CHECK (proof_seq >= 0);
ALTER TABLE accounts ADD COLUMN proof_equal INTEGER CHECK (proof_equal IN (0, 1));
ALTER TABLE accounts ADD COLUMN held_since INTEGER CHECK (held_since >= 0);

-- A snapshot that goes is marked first, and is none from then on; its rows go in small steps.
ALTER TABLE snapshots ADD COLUMN dropped_at INTEGER CHECK (dropped_at >= 0);

-- A pack has a row before it has a file, and loses the file before the row. `removing_at` stands between: the file may
-- be gone, and nothing new may rest on it.
ALTER TABLE packs ADD COLUMN touched_at INTEGER NOT NULL DEFAULT 0 CHECK (touched_at >= 0); -- when it last arrived
ALTER TABLE packs ADD COLUMN freed_at INTEGER CHECK (freed_at >= 0);                     -- when a chunk last left it
ALTER TABLE packs ADD COLUMN removing_at INTEGER CHECK (removing_at >= 0);
CREATE INDEX chunks_by_pack ON chunks (pack);

UPDATE packs SET touched_at = received_at;

UPDATE accounts SET
    snapshot_bytes = coalesce((
        SELECT bytes FROM snapshots WHERE snapshots.account = accounts.account AND off_chain_at IS NULL
        ORDER BY base_seq DESC, snapshot DESC LIMIT 1
    ), 0),
    (tail_bytes, tail_records, tail_since) = (
        SELECT coalesce(sum(bytes), 0), count(*), min(received_at) FROM records
        WHERE records.account = accounts.account AND records.seq > coalesce((
            SELECT max(base_seq) FROM snapshots
            WHERE snapshots.account = accounts.account AND off_chain_at IS NULL
        ), 0)
    );
