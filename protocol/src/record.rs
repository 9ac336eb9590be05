//! The clear header of a sealed record and the rules by which records form a chain (SPEC 5).
//!
//! ```text
//! offset  size  field
//!      0     4  magic "BKSP"
//!      4     1  version, 1
//!      5     1  kind: 1 batch, 2 gap, 3 policy
//!      6    16  timeline
//!     22     8  epoch
//!     30     8  seq
//!     38    32  SHA-256 of the previous sealed record; zeros for the first
//!     70    24  nonce
//!     94     …  XChaCha20-Poly1305 of the padded content, the 94 bytes above being associated data
//! ```

use crate::{
    bytes::{Malformed, Reader, kind, preamble},
    hash::sha256,
    head::Head,
    id::{RecordHash, TimelineId},
};

/// What a record holds. Visible to the server, which must not collapse a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// One `db_write` batch.
    Batch = kind::BATCH,
    /// The database went on outside the log; the named snapshot is the state after this record.
    Gap = kind::GAP,
    /// The list of servers and how many must acknowledge.
    Policy = kind::POLICY,
}

impl TryFrom<u8> for RecordKind {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        match byte {
            kind::BATCH => Ok(Self::Batch),
            kind::GAP => Ok(Self::Gap),
            kind::POLICY => Ok(Self::Policy),
            other => Err(Malformed::Kind(other)),
        }
    }
}

/// Bytes of the header, which is the associated data of the seal.
pub const HEADER_LEN: usize = 94;
/// Bytes of the authentication tag at the end.
pub const TAG_LEN: usize = 16;
/// The shortest sealed record: a header, 256 padded bytes, a tag.
pub const RECORD_MIN: usize = HEADER_LEN + crate::api::PADDED_MIN + TAG_LEN;

/// The clear part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the record holds.
    pub kind: RecordKind,
    /// The history it belongs to.
    pub timeline: TimelineId,
    /// The writer's epoch.
    pub epoch: u64,
    /// Place in the timeline, from 1.
    pub seq: u64,
    /// The record before this one.
    pub prev: RecordHash,
    /// Random nonce of the seal.
    pub nonce: [u8; 24],
}

impl RecordHeader {
    /// The 94 bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&preamble(self.kind as u8));
        out.extend_from_slice(&self.timeline.0);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.prev.0);
        out.extend_from_slice(&self.nonce);
        out
    }

    /// Reads the header of a sealed record and checks what can be checked without a key: magic, version, kind,
    /// a seq from 1 whose first record alone has no predecessor, an epoch from 1, and enough bytes for a seal.
    pub fn parse(sealed: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(sealed);
        let header = Self {
            kind: reader.preamble_kind()?.try_into()?,
            timeline: TimelineId(reader.array()?),
            epoch: reader.u64()?,
            seq: reader.u64()?,
            prev: RecordHash(reader.array()?),
            nonce: reader.array()?,
        };
        if sealed.len() < RECORD_MIN {
            return Err(Malformed::Short);
        }
        // Databases keep both as signed 64-bit numbers.
        if header.epoch == 0 || i64::try_from(header.epoch).is_err() {
            return Err(Malformed::Field("epoch"));
        }
        if header.seq == 0 || i64::try_from(header.seq).is_err() {
            return Err(Malformed::Field("seq"));
        }
        if (header.seq == 1) != (header.prev == RecordHash::NONE) {
            return Err(Malformed::Field("previous hash"));
        }
        Ok(header)
    }

    /// The head of a chain that ends in this record, whose sealed bytes have `hash`.
    #[must_use]
    pub fn head(&self, hash: RecordHash) -> Head {
        Head {
            epoch: self.epoch,
            seq: self.seq,
            hash,
        }
    }
}

/// SHA-256 of a whole sealed record.
#[must_use]
pub fn record_hash(sealed: &[u8]) -> RecordHash {
    RecordHash(sha256(sealed))
}

/// How a record relates to a chain that ends in `head` (I3, I4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It is the head already: success, nothing changes.
    Same,
    /// It follows the head, or begins a log that holds nothing yet: at the first record of a timeline, or where a copy begins.
    Next,
    /// It has the head's seq and predecessor and a higher epoch: it replaces the head, which is kept aside.
    Replaces,
    /// Anything else. If the log holds these very bytes further down, that is success too; if it holds the record that this one
    /// names and [`may_fork`] allows it, what follows that one is set aside. The caller looks.
    Refused,
}

/// The rule of the chain. `before_head` is the head's own predecessor; `session_epoch` bounds what a writer may
/// append: a session may copy older records to a server that lags, never newer ones than its own.
#[must_use]
pub fn place(
    header: &RecordHeader,
    hash: RecordHash,
    head: &Head,
    before_head: RecordHash,
    session_epoch: u64,
) -> Placement {
    if !head.is_empty() && hash == head.hash {
        return Placement::Same;
    }
    if header.epoch > session_epoch || header.epoch < head.epoch && !head.is_empty() {
        return Placement::Refused;
    }
    if head.is_empty() || Some(header.seq) == head.seq.checked_add(1) && header.prev == head.hash {
        return Placement::Next;
    }
    if header.seq == head.seq && header.prev == before_head && header.epoch > head.epoch {
        return Placement::Replaces;
    }
    Placement::Refused
}

/// Whether a refused record may take the place of a branch that never counted, provided that the log holds the record before it:
/// only for a session that has appended nothing here itself yet, and so only while a writer copies what other servers hold.
#[must_use]
pub fn may_fork(header: &RecordHeader, head: &Head, session_epoch: u64) -> bool {
    header.epoch <= session_epoch && head.epoch < session_epoch && header.seq <= head.seq
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(epoch: u64, seq: u64, prev: RecordHash) -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Batch,
            timeline: TimelineId([7; 16]),
            epoch,
            seq,
            prev,
            nonce: [9; 24],
        }
    }

    fn sealed(header: &RecordHeader) -> Vec<u8> {
        let mut bytes = header.encode();
        bytes.resize(RECORD_MIN, 0);
        bytes
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let first = header(1, 1, RecordHash::NONE);
        assert_eq!(first.encode().len(), HEADER_LEN);
        assert_eq!(RecordHeader::parse(&sealed(&first)), Ok(first));
    }

    #[test]
    fn a_header_that_cannot_be_part_of_a_chain_is_refused_by_name() {
        let none = RecordHash::NONE;
        let some = RecordHash([1; 32]);
        let parse = |h: RecordHeader| RecordHeader::parse(&sealed(&h));
        assert_eq!(parse(header(0, 1, none)), Err(Malformed::Field("epoch")));
        assert_eq!(parse(header(u64::MAX, 1, none)), Err(Malformed::Field("epoch")));
        assert_eq!(parse(header(1, 0, none)), Err(Malformed::Field("seq")));
        assert_eq!(parse(header(1, 1, some)), Err(Malformed::Field("previous hash")));
        assert_eq!(parse(header(1, 2, none)), Err(Malformed::Field("previous hash")));
        assert_eq!(
            RecordHeader::parse(&header(1, 1, none).encode()),
            Err(Malformed::Short)
        );
    }

    #[test]
    fn only_the_next_record_or_a_higher_epoch_of_the_last_one_is_taken() {
        let (before, at) = (RecordHash([1; 32]), RecordHash([2; 32]));
        let new = RecordHash([3; 32]);
        let head = Head {
            epoch: 5,
            seq: 9,
            hash: at,
        };
        let placed = |h: &RecordHeader, hash, session| place(h, hash, &head, before, session);
        assert_eq!(placed(&header(5, 10, at), new, 5), Placement::Next);
        assert_eq!(placed(&header(6, 10, at), new, 7), Placement::Next);
        assert_eq!(placed(&header(5, 9, before), at, 7), Placement::Same);
        assert_eq!(placed(&header(6, 9, before), new, 6), Placement::Replaces);
        assert_eq!(
            placed(&header(5, 9, before), new, 6),
            Placement::Refused,
            "same epoch, other bytes"
        );
        assert_eq!(
            placed(&header(6, 9, at), new, 6),
            Placement::Refused,
            "other predecessor"
        );
        assert_eq!(
            placed(&header(6, 8, before), new, 6),
            Placement::Refused,
            "not the last"
        );
        assert_eq!(
            placed(&header(5, 11, at), new, 5),
            Placement::Refused,
            "skips one"
        );
        assert_eq!(
            placed(&header(4, 10, at), new, 5),
            Placement::Refused,
            "the epoch falls"
        );
        assert_eq!(
            placed(&header(6, 10, at), new, 5),
            Placement::Refused,
            "beyond the session"
        );
    }

    #[test]
    fn a_log_that_holds_nothing_begins_with_any_record_of_no_higher_epoch_than_the_session() {
        let placed = |h: &RecordHeader, session| {
            place(h, RecordHash([3; 32]), &Head::EMPTY, RecordHash::NONE, session)
        };
        assert_eq!(placed(&header(1, 1, RecordHash::NONE), 1), Placement::Next);
        assert_eq!(placed(&header(2, 70, RecordHash([2; 32])), 5), Placement::Next);
        assert_eq!(placed(&header(6, 70, RecordHash([2; 32])), 5), Placement::Refused);
    }

    #[test]
    fn a_branch_gives_way_only_to_a_session_that_wrote_nothing_of_it() {
        let head = Head {
            epoch: 5,
            seq: 9,
            hash: RecordHash([2; 32]),
        };
        let other = header(3, 8, RecordHash([1; 32]));
        assert!(may_fork(&other, &head, 6));
        assert!(!may_fork(&other, &head, 5), "it wrote the head itself");
        assert!(!may_fork(&header(7, 8, RecordHash([1; 32])), &head, 6));
        assert!(!may_fork(&header(3, 10, RecordHash([1; 32])), &head, 6));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = RecordHeader::parse(&bytes);
        }

        #[test]
        fn whatever_parses_encodes_to_the_same_header(epoch in 1..1_u64 << 63, seq in 2..1_u64 << 63, prev in any::<[u8; 32]>()) {
            prop_assume!(prev != [0; 32]);
            let h = header(epoch, seq, RecordHash(prev));
            let bytes = sealed(&h);
            prop_assert_eq!(RecordHeader::parse(&bytes).unwrap().encode(), &bytes[..HEADER_LEN]);
        }
    }
}
