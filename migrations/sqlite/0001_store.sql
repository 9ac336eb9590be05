-- Accounts, their logs, their chunks and their snapshots.

-- What this database is. One row.
CREATE TABLE store (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         BLOB    NOT NULL CHECK (length(id) = 16)    -- random; session tokens of another store are void here
) STRICT;

-- One row for each (node, network). The columns from `epoch` on change with every append: all that decides
-- whether a record may be appended stands in this one row.
CREATE TABLE accounts (
    account          INTEGER PRIMARY KEY AUTOINCREMENT,    -- never used again for another node
    node             BLOB    NOT NULL CHECK (length(node) = 33),
    network          TEXT    NOT NULL CHECK (length(network) BETWEEN 1 AND 16),
    created_at       INTEGER NOT NULL CHECK (created_at >= 0),
    grant_floor      INTEGER NOT NULL DEFAULT 0 CHECK (grant_floor >= 0),     -- no grant of a lower serial is valid
    epoch            INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),           -- 0: no writer has opened yet
    instance         BLOB    CHECK (length(instance) = 16),                   -- the writer's
    run              BLOB    CHECK (length(run) = 16),                        -- the writer's
    writer_since     INTEGER CHECK (writer_since >= 0),                       -- when it opened
    writer_seen_at   INTEGER CHECK (writer_seen_at >= 0),                     -- when it last opened or appended
    timeline         BLOB    CHECK (length(timeline) = 16),                   -- set by the first record
    head_epoch       INTEGER NOT NULL DEFAULT 0 CHECK (head_epoch >= 0),
    head_seq         INTEGER NOT NULL DEFAULT 0 CHECK (head_seq >= 0),        -- 0: no record yet
    head_hash        BLOB    NOT NULL DEFAULT (zeroblob(32)) CHECK (length(head_hash) = 32),
    head_prev        BLOB    NOT NULL DEFAULT (zeroblob(32)) CHECK (length(head_prev) = 32), -- the head's predecessor
    head_received_at INTEGER CHECK (head_received_at >= 0),
    first_seq        INTEGER NOT NULL DEFAULT 0 CHECK (first_seq BETWEEN 0 AND head_seq),    -- the first record still held
    log_bytes        INTEGER NOT NULL DEFAULT 0 CHECK (log_bytes >= 0),       -- sealed bytes of the log
    UNIQUE (node, network),
    CHECK ((epoch = 0) = (instance IS NULL)),
    CHECK ((epoch = 0) = (run IS NULL)),
    CHECK ((epoch = 0) = (writer_since IS NULL)),
    CHECK ((epoch = 0) = (writer_seen_at IS NULL)),
    CHECK ((head_seq = 0) = (timeline IS NULL)),
    CHECK ((head_seq = 0) = (head_received_at IS NULL)),
    CHECK (head_epoch <= epoch)
) STRICT;

-- Every grant that an opened session was shown, so that its access key alone suffices later.
CREATE TABLE grants (
    account    INTEGER NOT NULL REFERENCES accounts,
    access_key BLOB    NOT NULL CHECK (length(access_key) = 32),
    serial     INTEGER NOT NULL CHECK (serial >= 0),
    text       TEXT    NOT NULL CHECK (length(text) <= 512),
    signature  TEXT    NOT NULL CHECK (length(signature) = 104),
    shown_at   INTEGER NOT NULL CHECK (shown_at >= 0),
    PRIMARY KEY (access_key, account, serial, text)
) STRICT, WITHOUT ROWID;

-- The logs. Rows lie in the order of their arrival, so that what commits together lies together.
CREATE TABLE records (
    place       INTEGER PRIMARY KEY,
    account     INTEGER NOT NULL REFERENCES accounts,
    seq         INTEGER NOT NULL CHECK (seq >= 1),
    epoch       INTEGER NOT NULL CHECK (epoch >= 1),
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),    -- SHA-256 of `sealed`
    received_at INTEGER NOT NULL CHECK (received_at >= 0),
    bytes       INTEGER NOT NULL CHECK (bytes BETWEEN 366 AND 268435456 AND bytes = length(sealed)),
    sealed      BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX records_by_seq ON records (account, seq);

-- Records that another one of the same seq and a higher epoch took the place of (I3): no log ever gets shorter.
CREATE TABLE replaced_records (
    place       INTEGER PRIMARY KEY,
    account     INTEGER NOT NULL REFERENCES accounts,
    seq         INTEGER NOT NULL CHECK (seq >= 1),
    epoch       INTEGER NOT NULL CHECK (epoch >= 1),
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    received_at INTEGER NOT NULL CHECK (received_at >= 0),
    replaced_at INTEGER NOT NULL CHECK (replaced_at >= 0),
    replaced_by INTEGER NOT NULL CHECK (replaced_by > epoch),  -- the epoch of the record that took its place
    bytes       INTEGER NOT NULL CHECK (bytes = length(sealed)),
    sealed      BLOB    NOT NULL
) STRICT;
CREATE INDEX replaced_records_by_seq ON replaced_records (account, seq);

-- Packs that are durable in the pack store.
CREATE TABLE packs (
    pack        INTEGER PRIMARY KEY,
    account     INTEGER NOT NULL REFERENCES accounts,
    id          BLOB    NOT NULL CHECK (length(id) = 32),      -- SHA-256 of the pack
    bytes       INTEGER NOT NULL CHECK (bytes BETWEEN 338 AND 16777216),
    received_at INTEGER NOT NULL CHECK (received_at >= 0),
    UNIQUE (account, id)
) STRICT;

-- Where each sealed chunk lies. A chunk that arrives again in another pack keeps its first place.
CREATE TABLE chunks (
    chunk   INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts,
    id      BLOB    NOT NULL CHECK (length(id) = 32),
    pack    INTEGER NOT NULL REFERENCES packs,
    offset  INTEGER NOT NULL CHECK (offset >= 42),             -- a preamble and an entry's header come first
    len     INTEGER NOT NULL CHECK (len BETWEEN 296 AND 131072),
    UNIQUE (account, id)
) STRICT;

-- Complete snapshots: each chunk of one was there when it was committed, and stays.
CREATE TABLE snapshots (
    snapshot     INTEGER PRIMARY KEY,
    account      INTEGER NOT NULL REFERENCES accounts,
    id           BLOB    NOT NULL CHECK (length(id) = 16),
    base_seq     INTEGER NOT NULL CHECK (base_seq >= 1),
    base_hash    BLOB    NOT NULL CHECK (length(base_hash) = 32),
    committed_at INTEGER NOT NULL CHECK (committed_at >= 0),
    bytes        INTEGER NOT NULL CHECK (bytes >= 0),          -- sealed bytes of its chunks
    off_chain_at INTEGER CHECK (off_chain_at >= 0),            -- when its base was replaced; such a one is not listed
    manifest     BLOB    NOT NULL CHECK (length(manifest) BETWEEN 374 AND 8388608),
    UNIQUE (account, id)
) STRICT;
CREATE INDEX snapshots_by_base ON snapshots (account, base_seq);

-- Which chunks a snapshot needs.
CREATE TABLE snapshot_chunks (
    snapshot INTEGER NOT NULL REFERENCES snapshots,
    chunk    INTEGER NOT NULL REFERENCES chunks,
    PRIMARY KEY (snapshot, chunk)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_chunks_by_chunk ON snapshot_chunks (chunk);
