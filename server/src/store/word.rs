//! What a writer says of a comparison.

use super::{Account, AccountId, Refusal, Writer};
use backstop_protocol::{api::ProofReport, clock::UnixMillis};

/// A report, or a person's word that the last failure is accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) account: AccountId,
    pub(super) writer: Writer,
    /// `None`: accepted.
    pub(super) report: Option<ProofReport>,
    pub(super) now: UnixMillis,
}

impl Account {
    /// Takes it in, by [`Account::prove`] or [`Account::accept`].
    pub(super) fn hear(&mut self, word: &Word) -> Result<(), Refusal> {
        match word.report {
            Some(report) => self.prove(&word.writer, report, word.now),
            None => self.accept(&word.writer),
        }
    }
}
