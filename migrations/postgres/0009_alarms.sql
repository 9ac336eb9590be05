-- What an operator is to hear by webhook and did not hear yet: it survives the server that saw it.
CREATE TABLE alarms (
    alarm   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    text   NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    node    bytea  NOT NULL CHECK (length(node) = 33),
    network text   NOT NULL CHECK (length(network) BETWEEN 1 AND 16),
    at      bigint NOT NULL CHECK (at >= 0),
    text    text   NOT NULL CHECK (length(text) <= 2000),
    free_at bigint NOT NULL DEFAULT 0 CHECK (free_at >= 0)        -- until then one server tries to deliver it
);
