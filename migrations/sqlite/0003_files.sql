-- The files beside a node's database, sealed as one: each version that arrived.
CREATE TABLE files (
    version     INTEGER PRIMARY KEY,                           -- in the order of their arrival
    account     INTEGER NOT NULL REFERENCES accounts,
    received_at INTEGER NOT NULL CHECK (received_at >= 0),
    bytes       INTEGER NOT NULL CHECK (bytes BETWEEN 302 AND 4194304 AND bytes = length(sealed)),
    sealed      BLOB    NOT NULL
) STRICT;
CREATE INDEX files_by_account ON files (account, version);
