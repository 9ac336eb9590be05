//! `--expect`: a place that the backup must have reached, as somebody saw it elsewhere (I6). A fresh machine has no witness
//! of its own; this is one that a person brings.

use crate::restore::BackupServer;
use anyhow::ensure;
use backstop_protocol::{
    api::AccountState,
    head::Head,
    id::RecordHash,
    record::{RecordHeader, record_hash},
};
use std::{cmp::Ordering, fmt, str::FromStr};

/// A place in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    epoch: u64,
    seq: u64,
    hash: Option<RecordHash>,
}

/// It names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place is EPOCH:SEQ or EPOCH:SEQ:HASH, as `backstop status --json` prints it")]
pub(crate) struct NotPlace;

impl FromStr for Expect {
    type Err = NotPlace;

    fn from_str(text: &str) -> Result<Self, NotPlace> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits).ok_or(NotPlace)
        };
        let mut parts = text.splitn(3, ':');
        let epoch = number(parts.next().unwrap_or_default())?;
        let seq = number(parts.next().unwrap_or_default())?;
        let hash = parts.next().map(str::parse).transpose().map_err(|_| NotPlace)?;
        Ok(Self { epoch, seq, hash })
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)?;
        self.hash.map_or(Ok(()), |hash| write!(f, ":{hash}"))
    }
}

impl Expect {
    /// Whether a backup goes through this place, or beyond it: by epoch and seq, and by the record's hash as long as the log
    /// still holds that record.
    pub(super) async fn check(&self, server: &impl BackupServer, state: &AccountState) -> anyhow::Result<()> {
        let place = Head {
            epoch: self.epoch,
            seq: self.seq,
            hash: self.hash.unwrap_or(RecordHash::NONE),
        };
        ensure!(
            state.head.cmp_place(&place) != Ordering::Less,
            "the backup ends at {}, and {self} was expected: it is an old copy, or records were lost. Nothing was changed. Try \
             another server or a mirror; without --expect this one is taken as it is, and what came after it is lost",
            state.head
        );
        let held = self.seq >= state.first_seq && self.seq <= state.head.seq && self.seq > 0;
        if !held {
            return Ok(());
        }
        let page = server.records(self.seq).await?;
        let found = page.first().map(|(_, sealed)| sealed);
        let there = found
            .and_then(|sealed| RecordHeader::parse(sealed).ok())
            .map(|header| header.epoch);
        let same = self
            .hash
            .is_none_or(|hash| found.is_some_and(|sealed| record_hash(sealed) == hash));
        // A record that never reached enough servers may have been replaced by one of a higher epoch: that is named too.
        ensure!(
            same && there.is_some_and(|epoch| epoch == self.epoch),
            "the backup does not go through {self}: at record {} it has {}. It is another branch of this node's history. \
             Nothing was changed; look at it before you go on without --expect",
            self.seq,
            there.map_or_else(|| "none".to_owned(), |epoch| format!("one of epoch {epoch}"))
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_has_one_spelling() {
        let hash = "ab".repeat(32);
        for good in ["0:0", "3:4711", &format!("3:4711:{hash}")] {
            assert_eq!(good.parse::<Expect>().unwrap().to_string(), good);
        }
        let upper = format!("3:4711:{}", hash.to_uppercase());
        for bad in [
            "",
            "3",
            "3:",
            ":3",
            "3:4:",
            "+3:4",
            "3:4:5",
            "3:4:5:6",
            "3 :4",
            "18446744073709551616:1",
            &upper,
        ] {
            assert_eq!(bad.parse::<Expect>(), Err(NotPlace), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = text.parse::<Expect>();
        }
    }
}
