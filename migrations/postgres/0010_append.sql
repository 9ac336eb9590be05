-- Appends in one call, so that what they take is planned once for each session and not for each group.

-- Writes accounts and their next records, for each account all of it or nothing: nothing where a transaction is at work on the
-- account, or where it is not as it was seen. A row's version is the transaction that wrote it. That number may come back after a
-- failover that lost transactions, or after four billion of them: the head and the writer's epoch must be the same too.
-- Answers the new version of the accounts that were written, and behind it those accounts; nothing where none was.
--
-- Its values come in four pieces, because each list of a call is a table to PostgreSQL:
-- $1, 13 numbers for each account: account, version and epoch as it was seen; then as the records leave it: writer_seen_at,
--     head_epoch, head_seq, head_received_at, first_seq, log_bytes, tail_bytes, tail_records, tail_since, rhythm_ms
-- $2, 112 bytes for each account: head_hash as it was seen; then timeline, head_hash and head_prev as the records leave it
-- $3, 6 numbers for each record: account, seq, epoch, received_at, where in $4 it begins, bytes
-- $4, for each record its hash and the record
-- $5, the synchronous_commit of the transaction, which the call says and not the session: no change of the configuration takes
--     it away (I1)
CREATE FUNCTION append_known(bigint[], bytea, bigint[], bytea, text) RETURNS bigint[]
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
-- One account after the other by its key, however few or many there are when it is planned.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE written bigint[];
BEGIN
    PERFORM set_config('synchronous_commit', $5, true), set_config('lock_timeout', '30s', true);
    -- One record of one account: three plain statements begin in less time than the one below.
    IF array_length($1, 1) = 13 AND array_length($3, 1) = 6 THEN
        PERFORM FROM accounts WHERE account = $1[1] AND xmin::text::bigint = $1[2] AND epoch = $1[3]
            AND head_hash = substr($2, 1, 32) FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed)
            VALUES ($3[1], $3[2], $3[3], substr($4, 1, 32), $3[4], $3[6], substr($4, 33, $3[6]::int));
            UPDATE accounts SET
                timeline = substr($2, 33, 16), head_hash = substr($2, 49, 32), head_prev = substr($2, 81, 32),
                writer_seen_at = $1[4], head_epoch = $1[5], head_seq = $1[6], head_received_at = $1[7], first_seq = $1[8],
                log_bytes = $1[9], tail_bytes = $1[10], tail_records = $1[11], tail_since = $1[12], rhythm_ms = $1[13]
            WHERE account = $1[1] RETURNING ARRAY[xmin::text::bigint, account] INTO written;
        END IF;
        RETURN written;
    END IF;
    WITH mine AS (
        SELECT accounts.account, i, i / 13 * 112 AS b FROM generate_series(0, array_length($1, 1) - 1, 13) AS i
        JOIN accounts ON accounts.account = $1[i + 1] AND accounts.xmin::text::bigint = $1[i + 2]
            AND accounts.epoch = $1[i + 3] AND accounts.head_hash = substr($2, i / 13 * 112 + 1, 32)
        FOR UPDATE OF accounts SKIP LOCKED
    ), added AS (
        INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed)
        SELECT $3[i + 1], $3[i + 2], $3[i + 3], substr($4, $3[i + 5]::int + 1, 32), $3[i + 4], $3[i + 6],
            substr($4, $3[i + 5]::int + 33, $3[i + 6]::int)
        FROM generate_series(0, array_length($3, 1) - 1, 6) AS i
        WHERE $3[i + 1] IN (SELECT mine.account FROM mine)
    ), changed AS (
        UPDATE accounts SET
            timeline = substr($2, b + 33, 16), head_hash = substr($2, b + 49, 32), head_prev = substr($2, b + 81, 32),
            writer_seen_at = $1[i + 4], head_epoch = $1[i + 5], head_seq = $1[i + 6], head_received_at = $1[i + 7],
            first_seq = $1[i + 8], log_bytes = $1[i + 9], tail_bytes = $1[i + 10], tail_records = $1[i + 11],
            tail_since = $1[i + 12], rhythm_ms = $1[i + 13]
        FROM mine WHERE accounts.account = mine.account
        RETURNING accounts.account, accounts.xmin::text::bigint AS version
    )
    SELECT max(changed.version) || array_agg(changed.account) INTO written FROM changed;
    RETURN written;
END $$;

-- PostgreSQL reads the text of every rule of a table anew for each statement that writes to it, but the body of a function once for
-- each session: the rules of an account are one function. As in a rule, what is NULL breaks none.
CREATE FUNCTION account_is_sound(a accounts) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    RETURN length(a.node) = 33 AND length(a.network) BETWEEN 1 AND 16 AND length(a.instance) = 16 AND length(a.run) = 16
        AND length(a.timeline) = 16 AND length(a.head_hash) = 32 AND length(a.head_prev) = 32 AND length(a.invite) = 4
        AND a.first_seq BETWEEN 0 AND a.head_seq AND a.head_epoch <= a.epoch
        AND a.removal_by IN ('operator', 'owner') AND a.told_quota BETWEEN 0 AND 3
        AND (a.epoch = 0) = (a.instance IS NULL) AND (a.epoch = 0) = (a.run IS NULL)
        AND (a.epoch = 0) = (a.writer_since IS NULL) AND (a.epoch = 0) = (a.writer_seen_at IS NULL)
        AND (a.head_seq = 0) = (a.timeline IS NULL) AND (a.head_seq = 0) = (a.head_received_at IS NULL)
        AND least(a.created_at, a.epoch, a.going_since, a.grant_floor, a.head_epoch, a.head_received_at, a.head_seq,
            a.held_since, a.kept_bytes, a.log_bytes, a.proof_at, a.proof_seq, a.quota, a.removal_at, a.removal_word_at,
            a.restored_at, a.rhythm_ms, a.roll_up_ordered_at, a.scrubbed_at, a.snapshot_bytes, a.tail_bytes,
            a.tail_records, a.tail_since, a.told_removal_at, a.told_silent_at, a.writer_seen_at, a.writer_since) >= 0;
END $$;
ALTER TABLE accounts
    DROP CONSTRAINT accounts_check, DROP CONSTRAINT accounts_check1, DROP CONSTRAINT accounts_check2,
    DROP CONSTRAINT accounts_check3, DROP CONSTRAINT accounts_check4, DROP CONSTRAINT accounts_check5,
    DROP CONSTRAINT accounts_check6, DROP CONSTRAINT accounts_check7,
    DROP CONSTRAINT accounts_created_at_check, DROP CONSTRAINT accounts_epoch_check,
    DROP CONSTRAINT accounts_going_since_check, DROP CONSTRAINT accounts_grant_floor_check,
    DROP CONSTRAINT accounts_head_epoch_check, DROP CONSTRAINT accounts_head_hash_check,
    DROP CONSTRAINT accounts_head_prev_check, DROP CONSTRAINT accounts_head_received_at_check,
    DROP CONSTRAINT accounts_head_seq_check, DROP CONSTRAINT accounts_held_since_check,
    DROP CONSTRAINT accounts_instance_check, DROP CONSTRAINT accounts_invite_check,
    DROP CONSTRAINT accounts_kept_bytes_check, DROP CONSTRAINT accounts_log_bytes_check,
    DROP CONSTRAINT accounts_network_check, DROP CONSTRAINT accounts_node_check,
    DROP CONSTRAINT accounts_proof_at_check, DROP CONSTRAINT accounts_proof_seq_check,
    DROP CONSTRAINT accounts_quota_check, DROP CONSTRAINT accounts_removal_at_check,
    DROP CONSTRAINT accounts_removal_by_check, DROP CONSTRAINT accounts_removal_word_at_check,
    DROP CONSTRAINT accounts_restored_at_check, DROP CONSTRAINT accounts_rhythm_ms_check,
    DROP CONSTRAINT accounts_roll_up_ordered_at_check, DROP CONSTRAINT accounts_run_check,
    DROP CONSTRAINT accounts_scrubbed_at_check, DROP CONSTRAINT accounts_snapshot_bytes_check,
    DROP CONSTRAINT accounts_tail_bytes_check, DROP CONSTRAINT accounts_tail_records_check,
    DROP CONSTRAINT accounts_tail_since_check, DROP CONSTRAINT accounts_timeline_check,
    DROP CONSTRAINT accounts_told_quota_check, DROP CONSTRAINT accounts_told_removal_at_check,
    DROP CONSTRAINT accounts_told_silent_at_check, DROP CONSTRAINT accounts_writer_seen_at_check,
    DROP CONSTRAINT accounts_writer_since_check,
    ADD CONSTRAINT accounts_sound CHECK (account_is_sound(accounts));

-- Whoever writes a record has locked its account's row; asking for that row once more takes as long as writing the record.
ALTER TABLE records DROP CONSTRAINT records_account_fkey;
