//! One account and the rules by which it changes: one writer (I7), one chain (I3). No SQL, no I/O.

use super::{AccountId, Append, InviteId, Refusal, Removing, Tail, Terms, Told, Writer, watch};
use backstop_protocol::{
    api::{AccountState, Appended, Proof, SnapshotInfo},
    clock::UnixMillis,
    head::Head,
    id::{Network, NodeId, RecordHash, TimelineId},
    quota::QuotaLevel,
    record::{Placement, may_fork, place},
    session::WriterClaim,
};

/// Who is the writer, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The writer. Its epoch is the account's.
    pub writer: Writer,
    /// When it opened, by the server's clock.
    pub since: UnixMillis,
    /// When it last opened or appended, by the server's clock.
    pub seen_at: UnixMillis,
}

/// The whole of an account that decides about openings and appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name in the store.
    pub id: AccountId,
    /// The node.
    pub node: NodeId,
    /// Its network.
    pub network: Network,
    /// No grant of a lower serial is valid.
    pub grant_floor: u64,
    /// The writer; `None` until one opens, which is epoch 0.
    pub seat: Option<Seat>,
    /// Set by the first record, never changed by another.
    pub timeline: Option<TimelineId>,
    /// Where the chain ends.
    pub head: Head,
    /// The head's own predecessor, which a record that replaces the head must name too.
    pub before_head: RecordHash,
    /// When the head arrived.
    pub head_received_at: Option<UnixMillis>,
    /// The first record still held; 0 where there is none.
    pub first_seq: u64,
    /// Sealed bytes of the log.
    pub log_bytes: u64,
    /// What a roll-up is decided by.
    pub tail: Tail,
    /// The last comparison that the client reported.
    pub proof: Option<Proof>,
    /// Since when nothing is dropped, because a comparison failed and nobody has accepted it yet.
    pub held_since: Option<UnixMillis>,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Bytes that are kept beside the log: packs, manifests, files, replaced records. The database itself keeps count.
    pub kept_bytes: u64,
    /// A quota of its own.
    pub quota: Option<u64>,
    /// The invitation that let it in.
    pub invite: Option<InviteId>,
    /// The longest recent silence between two records, milliseconds.
    pub rhythm_ms: u64,
    /// Whether, when and by whose wish it is to be removed.
    pub removal: Option<Removing>,
    /// When its owner last spoke about that, by its own clock.
    pub removal_word_at: Option<UnixMillis>,
    /// Whether its removal has begun: there is no way back, and nothing is written any more.
    pub going: bool,
    /// What an operator was told about it last.
    pub told: Told,
    /// Since when nothing is taken, because the store is a copy of an earlier time and no takeover said yet that it goes
    /// on from there.
    pub restored_since: Option<UnixMillis>,
}

impl Account {
    /// An account that nobody has written to yet.
    #[must_use]
    pub fn new(id: AccountId, node: NodeId, network: Network) -> Self {
        Self {
            id,
            node,
            network,
            grant_floor: 0,
            seat: None,
            timeline: None,
            head: Head::EMPTY,
            before_head: RecordHash::NONE,
            head_received_at: None,
            first_seq: 0,
            log_bytes: 0,
            tail: Tail::default(),
            proof: None,
            held_since: None,
            created_at: UnixMillis::default(),
            kept_bytes: 0,
            quota: None,
            invite: None,
            rhythm_ms: 0,
            removal: None,
            removal_word_at: None,
            going: false,
            told: Told::default(),
            restored_since: None,
        }
    }

    /// The account's epoch; 0 before the first writer.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.seat.map_or(0, |seat| seat.writer.epoch)
    }

    fn since(&self) -> Option<UnixMillis> {
        self.seat.map(|seat| seat.since)
    }

    /// The compare-and-set by which a writer opens (I7). The present writer's own claim succeeds again at any time
    /// and marks it as seen, no more. Any other must expect the epoch that is there and raise it, and must say so where
    /// it takes the place of another instance that may have written. That is judged first, so that a machine that was
    /// taken over learns just that.
    /// Over a store that was restored from a copy, a new takeover alone succeeds, and is what lets go of the account.
    pub fn claim(&mut self, claim: &WriterClaim, now: UnixMillis) -> Result<(), Refusal> {
        let writer = Writer::from(claim);
        if !claim.takeover {
            self.check_restored()?;
        }
        if let Some(seat) = self.seat {
            if seat.writer == writer {
                // A takeover that is repeated is not the one that was asked for.
                self.check_restored()?;
                self.seat = Some(Seat { seen_at: now, ..seat });
                return Ok(());
            }
            if seat.writer.instance != writer.instance && !claim.takeover && !self.head.is_empty() {
                return Err(Refusal::OtherInstance {
                    epoch: seat.writer.epoch,
                    since: seat.since,
                });
            }
        }
        if claim.expected_epoch != self.epoch() {
            return Err(Refusal::EpochMismatch {
                epoch: self.epoch(),
                head: self.head,
                since: self.since(),
            });
        }
        if claim.epoch <= claim.expected_epoch {
            return Err(Refusal::BadClaim("the epoch is not above the expected one"));
        }
        // Databases keep it as a signed 64-bit number, as records do.
        if i64::try_from(claim.epoch).is_err() {
            return Err(Refusal::BadClaim("the epoch is out of range"));
        }
        self.seat = Some(Seat {
            writer,
            since: now,
            seen_at: now,
        });
        self.restored_since = None;
        Ok(())
    }

    /// Refuses while the store is a copy of which the node's owner has said nothing yet.
    fn check_restored(&self) -> Result<(), Refusal> {
        match self.restored_since {
            Some(since) => Err(Refusal::ServerRestored {
                epoch: self.epoch(),
                since,
            }),
            None => Ok(()),
        }
    }

    /// Whether the session's run is still the writer.
    pub fn check_writer(&self, writer: &Writer) -> Result<(), Refusal> {
        self.check_restored()?;
        match &self.seat {
            _ if self.going => Err(Refusal::NotFound),
            Some(seat) if seat.writer == *writer => Ok(()),
            _ => Err(Refusal::Fenced {
                epoch: self.epoch(),
                since: self.since(),
            }),
        }
    }

    /// How a record relates to the chain (I3). [`Placement::Refused`] leaves two questions to the caller: whether
    /// the log holds these very bytes further down, which is success (I4), and whether it holds the record before, where
    /// [`Self::may_fork`] allows the rest to give way; else it is [`Self::not_next`].
    pub fn place(&self, append: &Append) -> Result<Placement, Refusal> {
        self.check_writer(&append.writer)?;
        if self.timeline.is_some_and(|mine| mine != append.header.timeline) {
            return Err(Refusal::WrongTimeline);
        }
        Ok(place(
            &append.header,
            append.hash,
            &self.head,
            self.before_head,
            append.writer.epoch,
        ))
    }

    /// Whether the record may take the place of a branch, if the log holds the one before it.
    #[must_use]
    pub fn may_fork(&self, append: &Append) -> bool {
        may_fork(&append.header, &self.head, append.writer.epoch)
    }

    /// The refusal of a record that does not continue the chain.
    #[must_use]
    pub fn not_next(&self) -> Refusal {
        Refusal::NotNext { head: self.head }
    }

    /// Makes a record that [`Self::place`] allowed the head; `replaced` is the length of the one it replaces, else 0,
    /// which the tail counts no more.
    pub fn advance(&mut self, append: &Append, replaced: u64) {
        self.timeline = Some(append.header.timeline);
        self.head = append.header.head(append.hash);
        self.before_head = append.header.prev;
        if let Some(last) = self.head_received_at {
            self.rhythm_ms = watch::rhythm(self.rhythm_ms, append.now.millis_since(last));
        }
        self.head_received_at = Some(append.now);
        if self.first_seq == 0 {
            self.first_seq = append.header.seq;
        }
        let bytes = u64::try_from(append.sealed.len()).unwrap_or(u64::MAX);
        self.log_bytes = self.log_bytes.saturating_add(bytes).saturating_sub(replaced);
        self.kept_bytes = self.kept_bytes.saturating_add(replaced);
        self.tail.add(bytes, append.now);
        if let Some(seat) = &mut self.seat {
            seat.seen_at = append.now;
        }
    }

    /// What an append is answered.
    #[must_use]
    pub fn appended(&self, terms: &Terms, now: UnixMillis) -> Appended {
        let quota = self.quota_state(terms);
        Appended {
            head: self.head,
            roll_up: self.asks(terms, quota.as_ref(), now),
            quota: quota.filter(|quota| quota.level > QuotaLevel::Within),
            removal_at: self.removal_at(),
        }
    }

    /// What the server says about the account.
    #[must_use]
    pub fn state(&self, snapshot: Option<SnapshotInfo>, terms: &Terms, now: UnixMillis) -> AccountState {
        let quota = self.quota_state(terms);
        AccountState {
            node: self.node,
            network: self.network,
            epoch: self.epoch(),
            timeline: self.timeline,
            head: self.head,
            head_received_at: self.head_received_at,
            writer_since: self.since(),
            writer_seen_at: self.seat.map(|seat| seat.seen_at),
            first_seq: self.first_seq,
            log_bytes: self.log_bytes,
            snapshot,
            roll_up: self.asks(terms, quota.as_ref(), now),
            proof: self.proof,
            held_since: self.held_since,
            files: None,
            quota,
            removal_at: self.removal_at(),
            restored_since: self.restored_since,
            time: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::id::{InstanceId, RunId};
    use proptest::prelude::*;

    fn claim(instance: u8, run: u8, expected_epoch: u64, epoch: u64) -> WriterClaim {
        WriterClaim {
            instance: InstanceId([instance; 16]),
            run: RunId([run; 16]),
            expected_epoch,
            epoch,
            takeover: false,
        }
    }

    fn account() -> Account {
        Account::new(AccountId(1), NodeId([2; 33]), Network::Regtest)
    }

    #[test]
    fn an_epoch_out_of_range_is_a_bad_claim() {
        let mut account = account();
        let refused = account.claim(&claim(1, 1, 0, 1 << 63), UnixMillis(1));
        assert!(matches!(refused, Err(Refusal::BadClaim(_))));
        assert_eq!(account.seat, None);
    }

    #[test]
    fn a_machine_that_was_taken_over_learns_that_and_not_that_its_epoch_is_old() {
        let mut account = account();
        account.claim(&claim(1, 1, 0, 1), UnixMillis(1)).unwrap();
        account.head.seq = 1;
        let takeover = WriterClaim {
            takeover: true,
            ..claim(2, 2, 1, 2)
        };
        account.claim(&takeover, UnixMillis(2)).unwrap();
        let refused = account.claim(&claim(1, 3, 1, 2), UnixMillis(3));
        let since = UnixMillis(2);
        assert_eq!(refused, Err(Refusal::OtherInstance { epoch: 2, since }));
    }

    #[test]
    fn over_a_restored_store_a_new_takeover_alone_lets_go() {
        let mut account = account();
        let takeover = WriterClaim {
            takeover: true,
            ..claim(1, 1, 0, 1)
        };
        account.claim(&takeover, UnixMillis(1)).unwrap();
        account.restored_since = Some(UnixMillis(5));
        let refused = Err(Refusal::ServerRestored {
            epoch: 1,
            since: UnixMillis(5),
        });
        // Neither the next run, nor the same claim again, nor an append.
        assert_eq!(account.claim(&claim(1, 2, 1, 2), UnixMillis(6)), refused);
        assert_eq!(account.claim(&takeover, UnixMillis(6)), refused);
        assert_eq!(account.check_writer(&Writer::from(&takeover)), refused);
        let anew = WriterClaim {
            takeover: true,
            ..claim(1, 3, 1, 2)
        };
        account.claim(&anew, UnixMillis(7)).unwrap();
        assert_eq!(account.restored_since, None);
        assert_eq!(account.check_writer(&Writer::from(&anew)), Ok(()));
    }

    proptest! {
        /// Whatever is claimed, by whomever, in whatever order.
        #[test]
        fn the_epoch_never_falls_and_a_refused_claim_changes_nothing(
            claims in proptest::collection::vec((0_u8..3, 0_u8..3, 0_u64..6, 0_u64..6, any::<bool>()), 1..40)
        ) {
            let mut account = account();
            for (at, (instance, run, expected, epoch, takeover)) in claims.into_iter().enumerate() {
                let before = account.clone();
                let claim = WriterClaim { takeover, ..claim(instance, run, expected, epoch) };
                let outcome = account.claim(&claim, UnixMillis(at as u64 + 1));
                prop_assert!(account.epoch() >= before.epoch());
                if outcome.is_err() {
                    prop_assert_eq!(&account, &before);
                    continue;
                }
                let writer = |account: &Account| account.seat.map(|seat| seat.writer);
                prop_assert_eq!(writer(&account), Some(Writer::from(&claim)));
                prop_assert!(writer(&account) == writer(&before) || account.epoch() > before.epoch());
            }
        }
    }
}
