-- Appends in one call, so that what they take is planned once for each session and not for each group.

-- Writes accounts and their next records, for each account all of it or nothing: nothing where a transaction is at work on the
-- account, or where it is not as it was seen. A row's version is the transaction that wrote it. That number may come back after a
-- failover that lost transactions, or after four billion of them: the head and the writer's epoch must be the same too.
-- Answers which accounts were written, and their new versions.
CREATE FUNCTION append_known(
    bigint[], bigint[], bigint[], bytea[],          -- accounts as they were seen: account, version, epoch, head_hash
    bigint[], bytea[],                              -- as the records leave them: writer_seen_at, timeline,
    bigint[], bigint[], bytea[], bytea[], bigint[], -- head_epoch, head_seq, head_hash, head_prev, head_received_at,
    bigint[], bigint[],                             -- first_seq, log_bytes,
    bigint[], bigint[], bigint[], bigint[],         -- tail_bytes, tail_records, tail_since, rhythm_ms
    bigint[], bigint[], bigint[], bytea[],          -- records: account, seq, epoch, hash,
    bigint[], bigint[], bytea[]                     -- received_at, bytes, sealed
) RETURNS TABLE (written bigint, version bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$ BEGIN
    RETURN QUERY
    WITH mine AS (
        SELECT new.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        AS new (account, seen, epoch, head, writer_seen_at, timeline, head_epoch, head_seq, head_hash, head_prev,
            head_received_at, first_seq, log_bytes, tail_bytes, tail_records, tail_since, rhythm_ms)
        JOIN accounts ON accounts.account = new.account AND accounts.xmin::text::bigint = new.seen
            AND accounts.epoch = new.epoch AND accounts.head_hash = new.head
        FOR UPDATE OF accounts SKIP LOCKED
    ), added AS (
        INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed)
        SELECT came.* FROM unnest($18, $19, $20, $21, $22, $23, $24)
        AS came (account, seq, epoch, hash, received_at, bytes, sealed)
        WHERE came.account IN (SELECT mine.account FROM mine)
    )
    UPDATE accounts SET
        writer_seen_at = mine.writer_seen_at, timeline = mine.timeline, head_epoch = mine.head_epoch,
        head_seq = mine.head_seq, head_hash = mine.head_hash, head_prev = mine.head_prev,
        head_received_at = mine.head_received_at, first_seq = mine.first_seq, log_bytes = mine.log_bytes,
        tail_bytes = mine.tail_bytes, tail_records = mine.tail_records, tail_since = mine.tail_since,
        rhythm_ms = mine.rhythm_ms
    FROM mine WHERE accounts.account = mine.account
    RETURNING accounts.account, accounts.xmin::text::bigint;
END $$;

-- PostgreSQL reads the text of every rule of a table anew for each statement that writes to it: the same rule for many columns is one.
ALTER TABLE accounts
    DROP CONSTRAINT accounts_created_at_check, DROP CONSTRAINT accounts_epoch_check,
    DROP CONSTRAINT accounts_going_since_check, DROP CONSTRAINT accounts_grant_floor_check,
    DROP CONSTRAINT accounts_head_epoch_check, DROP CONSTRAINT accounts_head_received_at_check,
    DROP CONSTRAINT accounts_head_seq_check, DROP CONSTRAINT accounts_held_since_check,
    DROP CONSTRAINT accounts_kept_bytes_check, DROP CONSTRAINT accounts_log_bytes_check,
    DROP CONSTRAINT accounts_proof_at_check, DROP CONSTRAINT accounts_proof_seq_check,
    DROP CONSTRAINT accounts_quota_check, DROP CONSTRAINT accounts_removal_at_check,
    DROP CONSTRAINT accounts_removal_word_at_check, DROP CONSTRAINT accounts_restored_at_check,
    DROP CONSTRAINT accounts_rhythm_ms_check, DROP CONSTRAINT accounts_roll_up_ordered_at_check,
    DROP CONSTRAINT accounts_scrubbed_at_check, DROP CONSTRAINT accounts_snapshot_bytes_check,
    DROP CONSTRAINT accounts_tail_bytes_check, DROP CONSTRAINT accounts_tail_records_check,
    DROP CONSTRAINT accounts_tail_since_check, DROP CONSTRAINT accounts_told_removal_at_check,
    DROP CONSTRAINT accounts_told_silent_at_check, DROP CONSTRAINT accounts_writer_seen_at_check,
    DROP CONSTRAINT accounts_writer_since_check, ADD CONSTRAINT accounts_numbers_check CHECK (least(
        created_at, epoch, going_since, grant_floor, head_epoch, head_received_at, head_seq, held_since, kept_bytes,
        log_bytes, proof_at, proof_seq, quota, removal_at, removal_word_at, restored_at, rhythm_ms,
        roll_up_ordered_at, scrubbed_at, snapshot_bytes, tail_bytes, tail_records, tail_since, told_removal_at,
        told_silent_at, writer_seen_at, writer_since) >= 0);

-- Whoever writes a record has locked its account's row; asking for that row once more takes as long as writing the record.
ALTER TABLE records DROP CONSTRAINT records_account_fkey;
