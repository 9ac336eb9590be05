//! What a writer says of its backup, beside appending to it.

use super::{Account, AccountId, Refusal, Writer};
use backstop_protocol::{api::ProofReport, clock::UnixMillis};

/// One word of a writer.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Whose backup.
    pub account: AccountId,
    /// Who says so.
    pub writer: Writer,
    /// What is said.
    pub says: Says,
    /// When.
    pub now: UnixMillis,
}

/// What a writer may say.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// What a comparison found.
    Proved(ProofReport),
    /// A person's word that the last failure is accepted.
    Accepted,
    /// A person's wish for a roll-up.
    RollUp,
}

impl Account {
    /// Takes it in, by [`Account::prove`], [`Account::accept`] or [`Account::order_roll_up`].
    pub(super) fn hear(&mut self, word: &Word) -> Result<(), Refusal> {
        match word.says {
            Says::Proved(report) => self.prove(&word.writer, report, word.now),
            Says::Accepted => self.accept(&word.writer),
            Says::RollUp => self.order_roll_up(&word.writer),
        }
    }
}
