-- Moving house: a store is copied into an empty one, which then goes on in its place.

-- The copy that fills this store, and alone writes to it; until it is whole no server serves it.
ALTER TABLE store ADD COLUMN filling BLOB CHECK (length(filling) = 16);
-- The hand-over in which this store takes nothing more.
ALTER TABLE store ADD COLUMN handing_over BLOB CHECK (length(handing_over) = 16);
-- When another store went on in its place, for good.
ALTER TABLE store ADD COLUMN moved_at INTEGER CHECK (moved_at >= 0);
