-- What an operator is to hear by webhook and did not hear yet: it survives the server that saw it.
CREATE TABLE alarms (
    alarm   INTEGER PRIMARY KEY,
    kind    TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    node    BLOB    NOT NULL CHECK (length(node) = 33),
    network TEXT    NOT NULL CHECK (length(network) BETWEEN 1 AND 16),
    at      INTEGER NOT NULL CHECK (at >= 0),
    text    TEXT    NOT NULL CHECK (length(text) <= 2000),
    free_at INTEGER NOT NULL DEFAULT 0 CHECK (free_at >= 0)       -- until then one server tries to deliver it
) STRICT;
