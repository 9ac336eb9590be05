-- Since when an account takes nothing, because the server's data were restored from a copy: its node's owner must adopt
-- it first.
ALTER TABLE accounts ADD COLUMN restored_at INTEGER CHECK (restored_at >= 0);
