//! What a writer says of its backup.

use super::{accounts, cells::int};
use crate::store::{StoreError, Terms, Word};
use backstop_protocol::api::AccountState;
use sqlx::SqliteConnection;

pub(super) async fn take(
    connection: &mut SqliteConnection,
    word: &Word,
    terms: &Terms,
) -> Result<AccountState, StoreError> {
    let mut account = accounts::load(connection, word.account).await?;
    account.hear(word)?;
    let proof = account.proof;
    sqlx::query(
        "UPDATE accounts SET proof_at = ?, proof_seq = ?, proof_equal = ?, held_since = ?,
            roll_up_ordered_at = coalesce(roll_up_ordered_at, ?)
         WHERE account = ?",
    )
    .bind(proof.map(|proof| int(proof.at.0)).transpose()?)
    .bind(proof.map(|proof| int(proof.seq)).transpose()?)
    .bind(proof.map(|proof| proof.equal))
    .bind(account.held_since.map(|since| int(since.0)).transpose()?)
    .bind(account.tail.ordered.then(|| int(word.now.0)).transpose()?)
    .bind(word.account.0)
    .execute(&mut *connection)
    .await?;
    accounts::state(connection, &account, terms, word.now).await
}
