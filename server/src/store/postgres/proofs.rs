//! What a writer says of its backup.

use super::{
    PostgresStore, accounts,
    cells::{int, millis, query},
};
use crate::store::{StoreError, Terms, Word};
use backstop_protocol::api::AccountState;
use sqlx::PgConnection;

async fn take(connection: &mut PgConnection, word: &Word, terms: &Terms) -> Result<AccountState, StoreError> {
    let mut account = accounts::lock(connection, word.account).await?;
    account.hear(word)?;
    let proof = account.proof;
    query(
        "UPDATE accounts SET proof_at = $1, proof_seq = $2, proof_equal = $3, held_since = $4,
            roll_up_ordered_at = coalesce(roll_up_ordered_at, $5)
         WHERE account = $6",
    )
    .bind(millis(proof.map(|proof| proof.at))?)
    .bind(proof.map(|proof| int(proof.seq)).transpose()?)
    .bind(proof.map(|proof| proof.equal))
    .bind(millis(account.held_since)?)
    .bind(millis(account.tail.ordered.then_some(word.now))?)
    .bind(word.account.0)
    .execute(&mut *connection)
    .await?;
    accounts::state(connection, &account, terms, word.now).await
}

impl PostgresStore {
    /// Takes in a writer's word.
    pub(super) async fn take_in(&self, word: Word) -> Result<AccountState, StoreError> {
        self.database
            .write((word, self.terms.clone()), |connection, (word, terms)| {
                Box::pin(take(connection, word, terms))
            })
            .await
    }
}
