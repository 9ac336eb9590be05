//! What a writer says of its backup, beside appending to it.

use super::{Account, AccountId, Refusal, Writer};
use backstop_protocol::{
    api::{Proof, ProofReport},
    clock::UnixMillis,
};

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

    /// Takes in what a comparison found. A failed one holds everything from the first time on, and one that succeeds
    /// later does not let go: only a person's word does.
    pub fn prove(&mut self, writer: &Writer, report: ProofReport, now: UnixMillis) -> Result<(), Refusal> {
        self.check_writer(writer)?;
        if report.seq > self.head.seq {
            return Err(Refusal::BadProof("it speaks of a record beyond the head"));
        }
        let ProofReport { seq, equal } = report;
        self.proof = Some(Proof { at: now, seq, equal });
        if !equal {
            self.held_since.get_or_insert(now);
        }
        Ok(())
    }

    /// Lets go of what a failed comparison holds.
    pub fn accept(&mut self, writer: &Writer) -> Result<(), Refusal> {
        self.check_writer(writer)?;
        self.held_since = None;
        Ok(())
    }

    /// Asks for a roll-up with every append from now on, until a snapshot is committed.
    pub fn order_roll_up(&mut self, writer: &Writer) -> Result<(), Refusal> {
        self.check_writer(writer)?;
        self.tail.ordered = true;
        Ok(())
    }
}
