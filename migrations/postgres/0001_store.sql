-- Accounts, their logs, their chunks, their snapshots and their files.
--
-- Sealed bytes do not compress, so that PostgreSQL is told not to try: EXTERNAL storage.

-- What this database is. One row.
CREATE TABLE store (
    one        bigint  PRIMARY KEY CHECK (one = 1),
    id         bytea   NOT NULL CHECK (length(id) = 16),           -- random; session tokens of another store are void here
    server_key bytea   NOT NULL CHECK (length(server_key) = 32)    -- of every server over this database: nodes pinned it
);

-- One row for each (node, network). Every transaction that writes for an account locks its row first, so that all
-- servers over this database judge one after the other. The columns from `epoch` on change with every append: room is
-- left in each page, so that no index changes with them.
CREATE TABLE accounts (
    account            bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,          -- never used again for another node
    node               bytea   NOT NULL CHECK (length(node) = 33),
    network            text    NOT NULL CHECK (length(network) BETWEEN 1 AND 16),
    created_at         bigint  NOT NULL CHECK (created_at >= 0),
    grant_floor        bigint  NOT NULL DEFAULT 0 CHECK (grant_floor >= 0),       -- no grant of a lower serial is valid
    epoch              bigint  NOT NULL DEFAULT 0 CHECK (epoch >= 0),             -- 0: no writer has opened yet
    instance           bytea   CHECK (length(instance) = 16),                     -- the writer's
    run                bytea   CHECK (length(run) = 16),                          -- the writer's
    writer_since       bigint  CHECK (writer_since >= 0),                         -- when it opened
    writer_seen_at     bigint  CHECK (writer_seen_at >= 0),                       -- when it last opened or appended
    timeline           bytea   CHECK (length(timeline) = 16),                     -- set by the first record
    head_epoch         bigint  NOT NULL DEFAULT 0 CHECK (head_epoch >= 0),
    head_seq           bigint  NOT NULL DEFAULT 0 CHECK (head_seq >= 0),          -- 0: no record yet
    head_hash          bytea   NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(head_hash) = 32),
    head_prev          bytea   NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(head_prev) = 32), -- the head's predecessor
    head_received_at   bigint  CHECK (head_received_at >= 0),
    first_seq          bigint  NOT NULL DEFAULT 0 CHECK (first_seq BETWEEN 0 AND head_seq), -- the first record still held
    log_bytes          bigint  NOT NULL DEFAULT 0 CHECK (log_bytes >= 0),         -- sealed bytes of the log
    -- The log above the newest snapshot on the chain: what a roll-up is decided by.
    tail_bytes         bigint  NOT NULL DEFAULT 0 CHECK (tail_bytes >= 0),
    tail_records       bigint  NOT NULL DEFAULT 0 CHECK (tail_records >= 0),
    tail_since         bigint  CHECK (tail_since >= 0),                           -- when its oldest record arrived
    snapshot_bytes     bigint  NOT NULL DEFAULT 0 CHECK (snapshot_bytes >= 0),    -- the newest's
    roll_up_ordered_at bigint  CHECK (roll_up_ordered_at >= 0),                   -- by hand; a commit clears it
    -- The last comparison of the backup with the node's own database, and since when a failed one holds everything.
    proof_at           bigint  CHECK (proof_at >= 0),
    proof_seq          bigint  CHECK (proof_seq >= 0),
    proof_equal        boolean,
    held_since         bigint  CHECK (held_since >= 0),
    UNIQUE (node, network),
    CHECK ((epoch = 0) = (instance IS NULL)),
    CHECK ((epoch = 0) = (run IS NULL)),
    CHECK ((epoch = 0) = (writer_since IS NULL)),
    CHECK ((epoch = 0) = (writer_seen_at IS NULL)),
    CHECK ((head_seq = 0) = (timeline IS NULL)),
    CHECK ((head_seq = 0) = (head_received_at IS NULL)),
    CHECK (head_epoch <= epoch)
) WITH (fillfactor = 50);

-- Every grant that an opened session was shown, so that its access key alone suffices later.
CREATE TABLE grants (
    account    bigint NOT NULL REFERENCES accounts,
    access_key bytea  NOT NULL CHECK (length(access_key) = 32),
    serial     bigint NOT NULL CHECK (serial >= 0),
    text       text   NOT NULL CHECK (length(text) <= 512),
    signature  text   NOT NULL CHECK (length(signature) = 104),
    shown_at   bigint NOT NULL CHECK (shown_at >= 0),
    PRIMARY KEY (access_key, account, serial, text)
);

-- The logs.
CREATE TABLE records (
    account     bigint NOT NULL REFERENCES accounts,
    seq         bigint NOT NULL CHECK (seq >= 1),
    epoch       bigint NOT NULL CHECK (epoch >= 1),
    hash        bytea  NOT NULL CHECK (length(hash) = 32),    -- SHA-256 of `sealed`
    received_at bigint NOT NULL CHECK (received_at >= 0),
    bytes       bigint NOT NULL CHECK (bytes BETWEEN 366 AND 268435456 AND bytes = length(sealed)),
    sealed      bytea  NOT NULL,
    PRIMARY KEY (account, seq)
);
ALTER TABLE records ALTER COLUMN sealed SET STORAGE EXTERNAL;

-- Records that another one of the same seq and a higher epoch took the place of (I3): no log ever gets shorter.
CREATE TABLE replaced_records (
    place       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account     bigint NOT NULL REFERENCES accounts,
    seq         bigint NOT NULL CHECK (seq >= 1),
    epoch       bigint NOT NULL CHECK (epoch >= 1),
    hash        bytea  NOT NULL CHECK (length(hash) = 32),
    received_at bigint NOT NULL CHECK (received_at >= 0),
    replaced_at bigint NOT NULL CHECK (replaced_at >= 0),
    replaced_by bigint NOT NULL CHECK (replaced_by > epoch),  -- the epoch of the record that took its place
    bytes       bigint NOT NULL CHECK (bytes = length(sealed)),
    sealed      bytea  NOT NULL
);
ALTER TABLE replaced_records ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX replaced_records_by_seq ON replaced_records (account, seq);

-- Packs. One has a row before it has a file, and loses the file before the row. `removing_at` stands between: the file
-- may be gone, and nothing new may rest on it.
CREATE TABLE packs (
    pack        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account     bigint NOT NULL REFERENCES accounts,
    id          bytea  NOT NULL CHECK (length(id) = 32),      -- SHA-256 of the pack
    bytes       bigint NOT NULL CHECK (bytes BETWEEN 338 AND 16777216),
    received_at bigint NOT NULL CHECK (received_at >= 0),
    touched_at  bigint NOT NULL CHECK (touched_at >= 0),      -- when it last arrived
    freed_at    bigint CHECK (freed_at >= 0),                 -- when a chunk last left it
    removing_at bigint CHECK (removing_at >= 0),
    UNIQUE (account, id)
);

-- Where each sealed chunk lies. A chunk that arrives again in another pack keeps its first place.
CREATE TABLE chunks (
    chunk    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account  bigint NOT NULL REFERENCES accounts,
    id       bytea  NOT NULL CHECK (length(id) = 32),
    pack     bigint NOT NULL REFERENCES packs,
    "offset" bigint NOT NULL CHECK ("offset" >= 42),          -- a preamble and an entry's header come first
    len      bigint NOT NULL CHECK (len BETWEEN 296 AND 131072),
    UNIQUE (account, id)
);
CREATE INDEX chunks_by_pack ON chunks (pack);

-- Complete snapshots: each chunk of one was there when it was committed, and stays. One that goes is marked first, and is
-- none from then on; its rows go in small steps.
CREATE TABLE snapshots (
    snapshot     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account      bigint NOT NULL REFERENCES accounts,
    id           bytea  NOT NULL CHECK (length(id) = 16),
    base_seq     bigint NOT NULL CHECK (base_seq >= 1),
    base_hash    bytea  NOT NULL CHECK (length(base_hash) = 32),
    committed_at bigint NOT NULL CHECK (committed_at >= 0),
    bytes        bigint NOT NULL CHECK (bytes >= 0),          -- sealed bytes of its chunks
    off_chain_at bigint CHECK (off_chain_at >= 0),            -- when its base was replaced; such a one is not listed
    dropped_at   bigint CHECK (dropped_at >= 0),
    manifest     bytea  NOT NULL CHECK (length(manifest) BETWEEN 374 AND 8388608),
    UNIQUE (account, id)
);
ALTER TABLE snapshots ALTER COLUMN manifest SET STORAGE EXTERNAL;
CREATE INDEX snapshots_by_base ON snapshots (account, base_seq);

-- Which chunks a snapshot needs.
CREATE TABLE snapshot_chunks (
    snapshot bigint NOT NULL REFERENCES snapshots,
    chunk    bigint NOT NULL REFERENCES chunks,
    PRIMARY KEY (snapshot, chunk)
);
CREATE INDEX snapshot_chunks_by_chunk ON snapshot_chunks (chunk);

-- The files beside a node's database, sealed as one: each version that arrived.
CREATE TABLE files (
    version     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of their arrival
    account     bigint NOT NULL REFERENCES accounts,
    received_at bigint NOT NULL CHECK (received_at >= 0),
    bytes       bigint NOT NULL CHECK (bytes BETWEEN 302 AND 4194304 AND bytes = length(sealed)),
    sealed      bytea  NOT NULL
);
ALTER TABLE files ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX files_by_account ON files (account, version);
