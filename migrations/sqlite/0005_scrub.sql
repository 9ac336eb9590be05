-- What a scrub finds, and when it last looked.

-- Since when the pack is known not to be what its name says, or not to be there: its chunks have to come again. A pack that
-- arrives again is sound.
ALTER TABLE packs ADD COLUMN damaged_at INTEGER CHECK (damaged_at >= 0);
CREATE INDEX packs_damaged ON packs (account) WHERE damaged_at IS NOT NULL;

ALTER TABLE accounts ADD COLUMN scrubbed_at INTEGER CHECK (scrubbed_at >= 0);  -- when a scrub last took it on
