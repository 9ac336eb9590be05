-- Whose turn it is to be scrubbed, without going through all accounts. No append changes it.
CREATE INDEX accounts_by_scrub ON accounts (coalesce(scrubbed_at, 0), account);
