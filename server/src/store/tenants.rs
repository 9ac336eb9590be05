//! What concerns tenants, in SQL that every database of ours understands: who may come, how much room each has, who is
//! watched, who is leaving. Written once and made for each database, so that they cannot drift apart.
//!
//! The caller has begun a transaction. Functions that change an account take its row by `$lock` first.

use super::Account;

/// Most rows of a leaving account that go in one transaction, where they are small.
pub(super) const ROWS: i64 = 2_000;
/// And where each may have megabytes.
pub(super) const LARGE_ROWS: i64 = 16;

/// Whether an account's row differs in what [`watch`](super::watch) takes down.
pub(super) fn differs(before: &Account, after: &Account) -> bool {
    before.told != after.told
}

macro_rules! tenants {
    ($connection:ty, $query:path, $scalar:path, $lock:path) => {
        use $crate::store::{
            Account, AccountId, Act, Admission, Allowed, Invite, Leaving, Refusal, Removing, SessionRequest, StoreError, Terms, Watched,
            cells::{account as read, int, invite, millis, number, oldest, optional, time},
            tenants::{LARGE_ROWS, ROWS, differs},
        };
        use backstop_protocol::{
            clock::UnixMillis,
            id::{Network, NodeId},
        };

        fn quota(quota: Option<u64>) -> Result<Option<i64>, StoreError> {
            quota.map(int).transpose()
        }

        /// Judges a node that has no account, and counts the invitation that it used.
        pub(super) async fn admit(
            connection: &mut $connection,
            request: &SessionRequest,
            terms: &Terms,
        ) -> Result<Admission, StoreError> {
            let allowed = $query("SELECT quota FROM allowed_nodes WHERE node = $1 AND network = $2")
                .bind(request.node.0.to_vec())
                .bind(request.network.as_str())
                .fetch_optional(&mut *connection)
                .await?;
            let allowed = allowed.map(|row| optional(&row, "quota")).transpose()?;
            let known = match &request.invite {
                Some(shown) => {
                    let id = shown.id.0.to_vec();
                    // A use that is counted is counted once: the row is taken by writing to it.
                    $query("UPDATE invites SET used = used WHERE id = $1 RETURNING *")
                        .bind(id)
                        .fetch_optional(&mut *connection)
                        .await?
                }
                None => None,
            };
            let known = known.as_ref().map(invite).transpose()?;
            let shown = request.invite.as_ref().map(|shown| (shown, known.as_ref()));
            let admission = terms.registration.admit(allowed, shown, request.now)?;
            if let Some(id) = admission.invite {
                $query("UPDATE invites SET used = used + 1 WHERE id = $1")
                    .bind(id.0.to_vec())
                    .execute(connection)
                    .await?;
            }
            Ok(admission)
        }

        /// Writes on what terms an account was let in.
        pub(super) async fn admitted(
            connection: &mut $connection,
            account: &mut Account,
            admission: Admission,
        ) -> Result<(), StoreError> {
            (account.quota, account.invite) = (admission.quota, admission.invite);
            $query("UPDATE accounts SET quota = $2, invite = $3 WHERE account = $1")
                .bind(account.id.0)
                .bind(quota(account.quota)?)
                .bind(account.invite.map(|id| id.0.to_vec()))
                .execute(connection)
                .await?;
            Ok(())
        }

        /// Writes what was asked for.
        async fn write_removal(connection: &mut $connection, account: &Account) -> Result<(), StoreError> {
            let removal: Option<Removing> = account.removal;
            $query(
                "UPDATE accounts SET removal_at = $2, removal_by = $3, removal_word_at = $4 WHERE account = $1",
            )
            .bind(account.id.0)
            .bind(millis(account.removal_at())?)
            .bind(removal.map(|removal| removal.by.as_str()))
            .bind(millis(account.removal_word_at)?)
            .execute(connection)
            .await?;
            Ok(())
        }

        /// The owner's word.
        pub(super) async fn hear_owner(
            connection: &mut $connection,
            account: AccountId,
            word: &backstop_protocol::removal::RemovalWord,
            terms: &Terms,
            now: UnixMillis,
        ) -> Result<Account, StoreError> {
            let mut account = $lock(connection, account).await?;
            account.hear_owner(word, terms, now)?;
            write_removal(connection, &account).await?;
            Ok(account)
        }

        /// Looks at an account and takes down what is said of it.
        pub(super) async fn watch(
            connection: &mut $connection,
            account: AccountId,
            terms: &Terms,
            now: UnixMillis,
        ) -> Result<Watched, StoreError> {
            let before = $lock(connection, account).await?;
            let mut account = before.clone();
            let watched = account.watch(terms, now);
            if differs(&before, &account) {
                $query(
                    "UPDATE accounts SET told_silent_at = $2, told_quota = $3, told_removal_at = $4 WHERE account = $1",
                )
                .bind(account.id.0)
                .bind(millis(account.told.silent_at)?)
                .bind(int(account.told.quota)?)
                .bind(millis(account.told.removal_at)?)
                .execute(connection)
                .await?;
            }
            Ok(watched)
        }

        /// One step of a removal that is due. The account's row goes last; packs go as every pack does, file before row.
        pub(super) async fn remove_some(
            connection: &mut $connection,
            account: AccountId,
            now: UnixMillis,
        ) -> Result<Leaving, StoreError> {
            let account = $lock(connection, account).await?;
            if !account.is_leaving(now) {
                return Ok(Leaving::No);
            }
            let of = account.id.0;
            if !account.going {
                $query("UPDATE accounts SET going_since = $2, held_since = NULL WHERE account = $1")
                    .bind(of)
                    .bind(int(now.0)?)
                    .execute(connection)
                    .await?;
                return Ok(Leaving::Going);
            }
            let rows = $query("SELECT seq, bytes FROM records WHERE account = $1 ORDER BY seq LIMIT $2")
                .bind(of)
                .bind(ROWS)
                .fetch_all(&mut *connection)
                .await?;
            if let Some((last, _)) = oldest(&rows)? {
                $query("DELETE FROM records WHERE account = $1 AND seq <= $2")
                    .bind(of)
                    .bind(int(last)?)
                    .execute(connection)
                    .await?;
                return Ok(Leaving::Going);
            }
            for (statement, most) in [
                (
                    "DELETE FROM replaced_records WHERE place IN (
                        SELECT place FROM replaced_records WHERE account = $1 LIMIT $2)",
                    LARGE_ROWS,
                ),
                (
                    "DELETE FROM files WHERE version IN (SELECT version FROM files WHERE account = $1 LIMIT $2)",
                    LARGE_ROWS,
                ),
                (
                    "DELETE FROM snapshot_chunks
                     WHERE snapshot = (SELECT min(snapshot) FROM snapshots WHERE account = $1) AND chunk IN (
                        SELECT chunk FROM snapshot_chunks
                        WHERE snapshot = (SELECT min(snapshot) FROM snapshots WHERE account = $1) LIMIT $2)",
                    ROWS,
                ),
                // Of the first of them nothing is left but its own row.
                (
                    "DELETE FROM snapshots WHERE account = $1 AND $2 > 0
                        AND snapshot = (SELECT min(snapshot) FROM snapshots WHERE account = $1)",
                    1,
                ),
                (
                    "DELETE FROM chunks WHERE chunk IN (SELECT chunk FROM chunks WHERE account = $1 LIMIT $2)",
                    ROWS,
                ),
                (
                    "UPDATE packs SET removing_at = 0 WHERE removing_at IS NULL AND pack IN (
                        SELECT pack FROM packs WHERE account = $1 AND removing_at IS NULL LIMIT $2)",
                    ROWS,
                ),
            ] {
                let done = $query(statement)
                    .bind(of)
                    .bind(most)
                    .execute(&mut *connection)
                    .await?;
                if done.rows_affected() > 0 {
                    return Ok(Leaving::Going);
                }
            }
            let packs: Option<i64> = $scalar("SELECT pack FROM packs WHERE account = $1 LIMIT 1")
                .bind(of)
                .fetch_optional(&mut *connection)
                .await?;
            if packs.is_some() {
                return Ok(Leaving::Packs);
            }
            for statement in [
                "DELETE FROM grants WHERE account = $1",
                "DELETE FROM accounts WHERE account = $1",
            ] {
                $query(statement).bind(of).execute(&mut *connection).await?;
            }
            Ok(Leaving::Gone {
                node: account.node,
                network: account.network,
            })
        }

        /// Does what an operator says.
        pub(in crate::store) async fn act(connection: &mut $connection, act: &Act) -> Result<(), StoreError> {
            match act {
                Act::Remove(account, at) => {
                    let mut account = $lock(connection, *account).await?;
                    account.ask_removal($crate::store::RemovalBy::Operator, *at)?;
                    write_removal(connection, &account).await
                }
                Act::Restore(account) => {
                    let mut account = $lock(connection, *account).await?;
                    account.keep($crate::store::RemovalBy::Operator)?;
                    write_removal(connection, &account).await
                }
                Act::Quota(account, own) => {
                    let done = $query("UPDATE accounts SET quota = $2 WHERE account = $1")
                        .bind(account.0)
                        .bind(quota(*own)?)
                        .execute(connection)
                        .await?;
                    found(done.rows_affected())
                }
                Act::Allow(allowed) => {
                    $query(
                        "INSERT INTO allowed_nodes (node, network, quota, allowed_at) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (node, network) DO UPDATE SET quota = excluded.quota",
                    )
                    .bind(allowed.node.0.to_vec())
                    .bind(allowed.network.as_str())
                    .bind(quota(allowed.quota)?)
                    .bind(int(allowed.allowed_at.0)?)
                    .execute(connection)
                    .await?;
                    Ok(())
                }
                Act::Disallow(node, network) => {
                    let done = $query("DELETE FROM allowed_nodes WHERE node = $1 AND network = $2")
                        .bind(node.0.to_vec())
                        .bind(network.as_str())
                        .execute(connection)
                        .await?;
                    found(done.rows_affected())
                }
                Act::Invite(invite) => {
                    $query(
                        "INSERT INTO invites (id, hash, note, quota, uses, created_at, expires_at)
                         VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    )
                    .bind(invite.id.0.to_vec())
                    .bind(invite.hash.to_vec())
                    .bind(invite.note.clone())
                    .bind(quota(invite.quota)?)
                    .bind(int(invite.uses)?)
                    .bind(int(invite.created_at.0)?)
                    .bind(millis(invite.expires_at)?)
                    .execute(connection)
                    .await?;
                    Ok(())
                }
                Act::Revoke(id, at) => {
                    let done =
                        $query("UPDATE invites SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1")
                            .bind(id.0.to_vec())
                            .bind(int(at.0)?)
                            .execute(connection)
                            .await?;
                    found(done.rows_affected())
                }
            }
        }

        fn found(rows: u64) -> Result<(), StoreError> {
            if rows == 0 {
                return Err(Refusal::NotFound.into());
            }
            Ok(())
        }

        /// All accounts of a node, or of all nodes, by node and network.
        pub(in crate::store) async fn accounts_of(
            connection: &mut $connection,
            node: Option<NodeId>,
        ) -> Result<Vec<Account>, StoreError> {
            let rows = match node {
                Some(node) => {
                    $query("SELECT * FROM accounts WHERE node = $1 ORDER BY network, account")
                        .bind(node.0.to_vec())
                        .fetch_all(connection)
                        .await?
                }
                None => {
                    $query("SELECT * FROM accounts ORDER BY node, network")
                        .fetch_all(connection)
                        .await?
                }
            };
            rows.iter().map(read).collect()
        }

        /// The invitations, the newest first.
        pub(in crate::store) async fn invites(connection: &mut $connection) -> Result<Vec<Invite>, StoreError> {
            let rows = $query("SELECT * FROM invites ORDER BY created_at DESC, id")
                .fetch_all(connection)
                .await?;
            rows.iter().map(invite).collect()
        }

        /// Those who may come without one.
        pub(in crate::store) async fn allowed(connection: &mut $connection) -> Result<Vec<Allowed>, StoreError> {
            let rows = $query("SELECT * FROM allowed_nodes ORDER BY node, network")
                .fetch_all(connection)
                .await?;
            rows.iter()
                .map(|row| {
                    use $crate::store::cells::{Cells as _, id};
                    Ok(Allowed {
                        node: NodeId(id(row, "node")?),
                        network: row
                            .text("network")?
                            .parse::<Network>()
                            .map_err(|_| StoreError::corrupt("network"))?,
                        quota: optional(row, "quota")?,
                        allowed_at: time(row, "allowed_at")?.unwrap_or_default(),
                    })
                })
                .collect()
        }

        /// What an account uses, counted from its rows: the log, and what is kept beside it.
        pub(in crate::store) async fn recount(
            connection: &mut $connection,
            account: AccountId,
        ) -> Result<(u64, u64), StoreError> {
            let row = $query(
                "SELECT
                    (SELECT CAST(coalesce(sum(length(sealed)), 0) AS bigint) FROM records WHERE account = $1) AS log,
                    (SELECT CAST(coalesce(sum(bytes), 0) AS bigint) FROM packs WHERE account = $1) AS packs,
                    (SELECT CAST(coalesce(sum(length(manifest)), 0) AS bigint) FROM snapshots WHERE account = $1)
                        AS manifests,
                    (SELECT CAST(coalesce(sum(length(sealed)), 0) AS bigint) FROM files WHERE account = $1) AS files,
                    (SELECT CAST(coalesce(sum(length(sealed)), 0) AS bigint) FROM replaced_records WHERE account = $1)
                        AS replaced",
            )
            .bind(account.0)
            .fetch_one(connection)
            .await?;
            let mut kept = 0_u64;
            for column in ["packs", "manifests", "files", "replaced"] {
                kept = kept.saturating_add(number(&row, column)?);
            }
            Ok((number(&row, "log")?, kept))
        }
    };
}
pub(super) use tenants;
