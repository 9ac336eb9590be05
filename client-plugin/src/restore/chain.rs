//! The chain, as restore believes it: record by record, by what the records themselves say (I3, I9).

use super::error::BadChain;
use crate::snapshot::Base;
use backstop_protocol::{
    head::Head,
    id::{RecordHash, TimelineId},
    record::{RecordHeader, record_hash},
};

/// Where the next record must fit.
pub(crate) struct Chain {
    timeline: TimelineId,
    next: u64,
    /// Hash of the record before; `None` where the chain is entered in its middle.
    prev: Option<RecordHash>,
    epoch: u64,
    /// A record that must come by, with this hash.
    base: Option<Base>,
}

impl Chain {
    /// A chain that is entered at `start`, at most one after the base. What the base is worth shows where it comes by,
    /// or where the first record after it names it.
    pub(crate) fn enter(timeline: TimelineId, start: u64, base: Option<Base>) -> Self {
        let prev = match base {
            Some(base) if base.seq.checked_add(1) == Some(start) => Some(base.hash),
            _ => (start == 1).then_some(RecordHash::NONE),
        };
        Self {
            timeline,
            next: start,
            prev,
            epoch: 0,
            base,
        }
    }

    /// The place of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next record, or says why it is not.
    pub(crate) fn take(&mut self, sealed: &[u8]) -> Result<RecordHeader, BadChain> {
        let seq = self.next;
        let header = RecordHeader::parse(sealed).map_err(|error| BadChain::Malformed { seq, error })?;
        if header.timeline != self.timeline {
            return Err(BadChain::Timeline {
                seq,
                found: header.timeline,
            });
        }
        if header.seq != seq {
            return Err(BadChain::Seq {
                expected: seq,
                found: header.seq,
            });
        }
        if self.prev.is_some_and(|prev| prev != header.prev) {
            return Err(BadChain::Prev { seq });
        }
        if header.epoch < self.epoch {
            return Err(BadChain::Epoch { seq });
        }
        let hash = record_hash(sealed);
        if self.base.is_some_and(|base| base.seq == seq && base.hash != hash) {
            return Err(BadChain::Base { seq });
        }
        self.next = seq.saturating_add(1);
        self.prev = Some(hash);
        self.epoch = header.epoch;
        Ok(header)
    }

    /// The chain must have come to this record.
    pub(super) fn end_at(&self, seq: u64) -> Result<(), BadChain> {
        match self.next.checked_sub(1) {
            Some(reached) if reached == seq => Ok(()),
            reached => Err(BadChain::Short {
                reached: reached.unwrap_or_default(),
                head: seq,
            }),
        }
    }

    /// The chain must end here, in `head`.
    pub(crate) fn end(&self, head: &Head) -> Result<(), BadChain> {
        self.end_at(head.seq)?;
        match self.prev {
            Some(found) if found != head.hash => Err(BadChain::Head {
                expected: head.hash,
                found,
            }),
            _ if self.epoch > head.epoch => Err(BadChain::Epoch { seq: head.seq }),
            _ => Ok(()),
        }
    }
}
