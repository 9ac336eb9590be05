-- Whose turn it is to be scrubbed, without going through all accounts.
CREATE INDEX accounts_by_scrub ON accounts (coalesce(scrubbed_at, 0));
