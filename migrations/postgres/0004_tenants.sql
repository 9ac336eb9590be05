-- Tenants: who may come, how much room each has, and who is leaving.

-- What is kept of an account beside its log, in bytes: packs, manifests, files, replaced records. With `log_bytes` it is what
-- the account uses; triggers keep it, so that whoever writes such rows cannot forget it.
ALTER TABLE accounts ADD COLUMN kept_bytes bigint NOT NULL DEFAULT 0 CHECK (kept_bytes >= 0);
ALTER TABLE accounts ADD COLUMN quota bigint CHECK (quota >= 0);                        -- its own; else the server's
ALTER TABLE accounts ADD COLUMN invite bytea CHECK (length(invite) = 4);                  -- the name of the one that let it in
-- The longest recent silence between two records, which fades with time.
ALTER TABLE accounts ADD COLUMN rhythm_ms bigint NOT NULL DEFAULT 0 CHECK (rhythm_ms >= 0);
-- When all of it is to go; who asked; when the owner last asked, by its own clock; since when it is going and nothing
-- takes it back any more.
ALTER TABLE accounts ADD COLUMN removal_at bigint CHECK (removal_at >= 0);
ALTER TABLE accounts ADD COLUMN removal_by text CHECK (removal_by IN ('operator', 'owner'));
ALTER TABLE accounts ADD COLUMN removal_word_at bigint CHECK (removal_word_at >= 0);
ALTER TABLE accounts ADD COLUMN going_since bigint CHECK (going_since >= 0);
-- What was said of it last, so that each thing is said once, by whichever server sees it first.
ALTER TABLE accounts ADD COLUMN told_silent_at bigint CHECK (told_silent_at >= 0);
ALTER TABLE accounts ADD COLUMN told_quota bigint NOT NULL DEFAULT 0 CHECK (told_quota BETWEEN 0 AND 3);
ALTER TABLE accounts ADD COLUMN told_removal_at bigint CHECK (told_removal_at >= 0);

-- Invitations. What is given to a person is never here: only its hash.
CREATE TABLE invites (
    id         bytea    PRIMARY KEY CHECK (length(id) = 4),     -- its public name
    hash       bytea    NOT NULL CHECK (length(hash) = 32),
    note       text    NOT NULL CHECK (length(note) <= 200),
    quota      bigint CHECK (quota >= 0),                     -- of the nodes that it lets in; else the server's
    uses       bigint NOT NULL CHECK (uses >= 1),             -- how many nodes it lets in
    used       bigint NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    created_at bigint NOT NULL CHECK (created_at >= 0),
    expires_at bigint CHECK (expires_at >= 0),
    revoked_at bigint CHECK (revoked_at >= 0)
);

-- Nodes that may come without an invitation.
CREATE TABLE allowed_nodes (
    node       bytea    NOT NULL CHECK (length(node) = 33),
    network    text    NOT NULL CHECK (length(network) BETWEEN 1 AND 16),
    quota      bigint CHECK (quota >= 0),
    allowed_at bigint NOT NULL CHECK (allowed_at >= 0),
    PRIMARY KEY (node, network)
);

UPDATE accounts SET kept_bytes =
    (SELECT coalesce(sum(bytes), 0) FROM packs WHERE packs.account = accounts.account)
    + (SELECT coalesce(sum(length(manifest)), 0) FROM snapshots WHERE snapshots.account = accounts.account)
    + (SELECT coalesce(sum(bytes), 0) FROM files WHERE files.account = accounts.account)
    + (SELECT coalesce(sum(bytes), 0) FROM replaced_records WHERE replaced_records.account = accounts.account);

-- One statement of many rows changes the account once.
CREATE FUNCTION packs_come() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + moved.bytes
    FROM (SELECT account, sum(bytes) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER packs_come AFTER INSERT ON packs REFERENCING NEW TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION packs_come();
CREATE FUNCTION packs_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - moved.bytes
    FROM (SELECT account, sum(bytes) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER packs_go AFTER DELETE ON packs REFERENCING OLD TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION packs_go();
CREATE FUNCTION files_come() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + moved.bytes
    FROM (SELECT account, sum(bytes) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER files_come AFTER INSERT ON files REFERENCING NEW TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION files_come();
CREATE FUNCTION files_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - moved.bytes
    FROM (SELECT account, sum(bytes) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER files_go AFTER DELETE ON files REFERENCING OLD TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION files_go();
CREATE FUNCTION replaced_records_come() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + moved.bytes
    FROM (SELECT account, sum(bytes) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER replaced_records_come AFTER INSERT ON replaced_records REFERENCING NEW TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION replaced_records_come();
CREATE FUNCTION replaced_records_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - moved.bytes
    FROM (SELECT account, sum(bytes) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER replaced_records_go AFTER DELETE ON replaced_records REFERENCING OLD TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION replaced_records_go();
CREATE FUNCTION snapshots_come() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + moved.bytes
    FROM (SELECT account, sum(length(manifest)) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER snapshots_come AFTER INSERT ON snapshots REFERENCING NEW TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION snapshots_come();
CREATE FUNCTION snapshots_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - moved.bytes
    FROM (SELECT account, sum(length(manifest)) AS bytes FROM these GROUP BY account) AS moved
    WHERE accounts.account = moved.account;
    RETURN NULL;
END $$;
CREATE TRIGGER snapshots_go AFTER DELETE ON snapshots REFERENCING OLD TABLE AS these
    FOR EACH STATEMENT EXECUTE FUNCTION snapshots_go();
