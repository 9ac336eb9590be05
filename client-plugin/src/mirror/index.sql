-- What a mirror holds beside its packs. Version 1; `user_version` says which.

-- The log that is followed: records from `first_seq` to the head without a hole. One row.
CREATE TABLE chain (
    one              INTEGER PRIMARY KEY CHECK (one = 1),
    timeline         BLOB    CHECK (length(timeline) = 16),
    first_seq        INTEGER NOT NULL,
    head_epoch       INTEGER NOT NULL,
    head_seq         INTEGER NOT NULL,
    head_hash        BLOB    NOT NULL CHECK (length(head_hash) = 32),
    head_received_at INTEGER,                          -- by the server's clock
    heard_at         INTEGER                           -- by this device's clock
) STRICT;
INSERT INTO chain (one, first_seq, head_epoch, head_seq, head_hash) VALUES (1, 1, 0, 0, zeroblob(32));

CREATE TABLE records (
    seq         INTEGER PRIMARY KEY CHECK (seq >= 1),
    epoch       INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    received_at INTEGER NOT NULL,
    sealed      BLOB    NOT NULL
) STRICT;
CREATE INDEX records_by_kind ON records (kind, seq);

-- Records that the server's chain went past another way; kept, but not followed.
CREATE TABLE aside (
    place       INTEGER PRIMARY KEY,
    timeline    BLOB,
    seq         INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    hash        BLOB    NOT NULL,
    received_at INTEGER NOT NULL,
    aside_at    INTEGER NOT NULL,
    sealed      BLOB    NOT NULL
) STRICT;

CREATE TABLE packs (
    pack INTEGER PRIMARY KEY,
    id   BLOB    NOT NULL UNIQUE CHECK (length(id) = 32)
) STRICT;

CREATE TABLE chunks (
    chunk  INTEGER PRIMARY KEY,
    id     BLOB    NOT NULL UNIQUE CHECK (length(id) = 32),
    pack   INTEGER NOT NULL REFERENCES packs,
    offset INTEGER NOT NULL,
    len    INTEGER NOT NULL
) STRICT;
CREATE INDEX chunks_by_pack ON chunks (pack);

-- Complete snapshots: each chunk of one is held.
CREATE TABLE snapshots (
    snapshot      INTEGER PRIMARY KEY,
    id            BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    timeline      BLOB    NOT NULL CHECK (length(timeline) = 16),
    base_seq      INTEGER NOT NULL,
    base_hash     BLOB    NOT NULL CHECK (length(base_hash) = 32),
    committed_at  INTEGER NOT NULL,                    -- by the server's clock
    bytes         INTEGER NOT NULL,
    superseded_at INTEGER,                             -- by this device's clock
    manifest      BLOB    NOT NULL
) STRICT;

CREATE TABLE snapshot_chunks (
    snapshot INTEGER NOT NULL REFERENCES snapshots,
    chunk    INTEGER NOT NULL REFERENCES chunks,
    PRIMARY KEY (snapshot, chunk)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_chunks_by_chunk ON snapshot_chunks (chunk);

-- Versions of the files beside the database.
CREATE TABLE files (
    version     INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,                      -- by the server's clock
    stored_at   INTEGER NOT NULL,                      -- by this device's clock
    sealed      BLOB    NOT NULL
) STRICT;
