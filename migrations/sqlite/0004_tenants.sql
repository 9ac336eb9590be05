-- Tenants: who may come, how much room each has, and who is leaving.

-- What is kept of an account beside its log, in bytes: packs, manifests, files, replaced records. With `log_bytes` it is what
-- the account uses; triggers keep it, so that whoever writes such rows cannot forget it.
ALTER TABLE accounts ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0 CHECK (kept_bytes >= 0);
ALTER TABLE accounts ADD COLUMN quota INTEGER CHECK (quota >= 0);                        -- its own; else the server's
ALTER TABLE accounts ADD COLUMN invite BLOB CHECK (length(invite) = 4);                  -- the name of the one that let it in
-- The longest recent silence between two records, which fades with time.
ALTER TABLE accounts ADD COLUMN rhythm_ms INTEGER NOT NULL DEFAULT 0 CHECK (rhythm_ms >= 0);
-- When all of it is to go; who asked; when the owner last asked, by its own clock; since when it is going and nothing
-- takes it back any more.
ALTER TABLE accounts ADD COLUMN removal_at INTEGER CHECK (removal_at >= 0);
ALTER TABLE accounts ADD COLUMN removal_by TEXT CHECK (removal_by IN ('operator', 'owner'));
ALTER TABLE accounts ADD COLUMN removal_word_at INTEGER CHECK (removal_word_at >= 0);
ALTER TABLE accounts ADD COLUMN going_since INTEGER CHECK (going_since >= 0);
-- What was said of it last, so that each thing is said once, by whichever server sees it first.
ALTER TABLE accounts ADD COLUMN told_silent_at INTEGER CHECK (told_silent_at >= 0);
ALTER TABLE accounts ADD COLUMN told_quota INTEGER NOT NULL DEFAULT 0 CHECK (told_quota BETWEEN 0 AND 3);
ALTER TABLE accounts ADD COLUMN told_removal_at INTEGER CHECK (told_removal_at >= 0);

-- Invitations. What is given to a person is never here: only its hash.
CREATE TABLE invites (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 4),     -- its public name
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    note       TEXT    NOT NULL CHECK (length(note) <= 200),
    quota      INTEGER CHECK (quota >= 0),                     -- of the nodes that it lets in; else the server's
    uses       INTEGER NOT NULL CHECK (uses >= 1),             -- how many nodes it lets in
    used       INTEGER NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    created_at INTEGER NOT NULL CHECK (created_at >= 0),
    expires_at INTEGER CHECK (expires_at >= 0),
    revoked_at INTEGER CHECK (revoked_at >= 0)
) STRICT, WITHOUT ROWID;

-- Nodes that may come without an invitation.
CREATE TABLE allowed_nodes (
    node       BLOB    NOT NULL CHECK (length(node) = 33),
    network    TEXT    NOT NULL CHECK (length(network) BETWEEN 1 AND 16),
    quota      INTEGER CHECK (quota >= 0),
    allowed_at INTEGER NOT NULL CHECK (allowed_at >= 0),
    PRIMARY KEY (node, network)
) STRICT, WITHOUT ROWID;

UPDATE accounts SET kept_bytes =
    (SELECT coalesce(sum(bytes), 0) FROM packs WHERE packs.account = accounts.account)
    + (SELECT coalesce(sum(length(manifest)), 0) FROM snapshots WHERE snapshots.account = accounts.account)
    + (SELECT coalesce(sum(bytes), 0) FROM files WHERE files.account = accounts.account)
    + (SELECT coalesce(sum(bytes), 0) FROM replaced_records WHERE replaced_records.account = accounts.account);

CREATE TRIGGER packs_come AFTER INSERT ON packs BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + NEW.bytes WHERE account = NEW.account;
END;
CREATE TRIGGER packs_go AFTER DELETE ON packs BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - OLD.bytes WHERE account = OLD.account;
END;
CREATE TRIGGER files_come AFTER INSERT ON files BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + NEW.bytes WHERE account = NEW.account;
END;
CREATE TRIGGER files_go AFTER DELETE ON files BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - OLD.bytes WHERE account = OLD.account;
END;
CREATE TRIGGER replaced_records_come AFTER INSERT ON replaced_records BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + NEW.bytes WHERE account = NEW.account;
END;
CREATE TRIGGER replaced_records_go AFTER DELETE ON replaced_records BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - OLD.bytes WHERE account = OLD.account;
END;
CREATE TRIGGER snapshots_come AFTER INSERT ON snapshots BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes + length(NEW.manifest) WHERE account = NEW.account;
END;
CREATE TRIGGER snapshots_go AFTER DELETE ON snapshots BEGIN
    UPDATE accounts SET kept_bytes = kept_bytes - length(OLD.manifest) WHERE account = OLD.account;
END;
