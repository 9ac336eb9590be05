//! May this directory go on from where the backup ends? (SPEC 8, I5, I6, I7)
//!
//! A pure function of what is known before the first batch of a run is answered. The witness is judged first: a
//! server below it has lost records, and nothing here heals that.

use crate::directory::Witness;
use backstop_protocol::{
    head::Head,
    id::{RunId, TimelineId},
};
use std::cmp::Ordering;

/// What is known about the newest record on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// The record.
    pub(super) head: Head,
    /// The run that wrote it.
    pub(super) run: RunId,
    /// The version of the database after the newest batch or bridged gap; `None` where there is neither yet.
    pub(super) data_version: Option<u64>,
    /// Whether it is a gap whose snapshot is not complete.
    pub(super) unbridged: bool,
}

/// Everything that the judgement rests on.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    /// The version of the live database, as committed.
    pub(super) database: u64,
    /// Whether the live database held nothing at all before the first batch.
    pub(super) database_is_new: bool,
    /// The server's timeline and newest record; `None` where it has none.
    pub(super) server: Option<(TimelineId, Last)>,
    /// What this directory last saw acknowledged.
    pub(super) witness: Option<Witness>,
    /// The runs that wrote from this directory.
    pub(super) runs: &'a [RunId],
    /// Why the backup needs a snapshot of the live database even where it ends just there.
    pub(super) due: Option<Due>,
}

/// What happens at the first batch of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The database is where the backup ends: append.
    GoOn,
    /// Neither a database nor a backup: the log starts from nothing.
    Begin,
    /// The backup needs a snapshot of the live database before the batch: at the first batch ever, after writes that
    /// no hook reported, after a gap that was never bridged.
    Snapshot(Reason),
    /// The database is where the backup ends, and yet a snapshot of it is due: if it can be had.
    Renew(Due),
    /// The node must not go on.
    Halt(Halt),
}

/// Why a snapshot is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The node existed before its backup.
    FirstBackup,
    /// The database is newer than the backup by this many versions.
    Unreported(u64),
    /// An earlier snapshot was begun and never completed.
    Unfinished,
}

/// Why a snapshot of the live database is due where the backup ends just there. Nothing is missing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The last run migrated the schema, and lightningd rewrote the file then.
    Migrated,
    /// What the backup gives was found to differ from the live database.
    Unproved,
    /// The server asks for it, and there is no shadow.
    RollUp,
}

/// Why the node must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The server holds less than was acknowledged.
    ServerLost {
        /// What was acknowledged.
        witness: Head,
        /// What the server has.
        server: Option<Head>,
    },
    /// The server's chain is not the one this directory wrote.
    OtherHistory {
        /// What was acknowledged.
        witness: Head,
    },
    /// The newest record was written by nobody this directory knows.
    UnknownWriter {
        /// What the server has.
        server: Head,
    },
    /// The database lacks records that this directory wrote; the next start applies them.
    Behind {
        /// By how many versions.
        by: u64,
    },
    /// The database is older than the backup, by records that another directory wrote.
    Older {
        /// By how many versions.
        by: u64,
    },
    /// The database is newer than the backup, but the backup does not end where this directory saw it end.
    NewerThanForeign {
        /// By how many versions.
        by: u64,
    },
}

/// Judges.
pub(super) fn judge(facts: &Facts<'_>) -> Judgement {
    let Some((timeline, last)) = &facts.server else {
        return match facts.witness {
            Some(witness) => Judgement::Halt(Halt::ServerLost {
                witness: witness.head,
                server: None,
            }),
            None if facts.database_is_new => Judgement::Begin,
            None => Judgement::Snapshot(Reason::FirstBackup),
        };
    };
    if let Some(halt) = facts
        .witness
        .and_then(|witness| against_witness(&witness, *timeline, last.head))
    {
        return Judgement::Halt(halt);
    }
    let seen = facts.witness.is_some_and(|witness| witness.head == last.head);
    if !seen && !facts.runs.contains(&last.run) {
        return Judgement::Halt(Halt::UnknownWriter { server: last.head });
    }
    let Some(backup) = last.data_version else {
        // A timeline that was opened and never written to.
        return if facts.database_is_new {
            Judgement::GoOn
        } else {
            Judgement::Snapshot(Reason::FirstBackup)
        };
    };
    match facts.database.cmp(&backup) {
        Ordering::Less => {
            let by = backup - facts.database;
            let ours = facts.runs.contains(&last.run);
            Judgement::Halt(if ours {
                Halt::Behind { by }
            } else {
                Halt::Older { by }
            })
        }
        _ if last.unbridged => Judgement::Snapshot(Reason::Unfinished),
        Ordering::Equal => facts.due.map_or(Judgement::GoOn, Judgement::Renew),
        Ordering::Greater => {
            let by = facts.database - backup;
            if seen {
                Judgement::Snapshot(Reason::Unreported(by))
            } else {
                Judgement::Halt(Halt::NewerThanForeign { by })
            }
        }
    }
}

/// What is wrong with a server's head, seen from the witness; `None` where it is the same or further on.
pub(super) fn against_witness(witness: &Witness, timeline: TimelineId, server: Head) -> Option<Halt> {
    if witness.timeline != timeline {
        return Some(Halt::OtherHistory {
            witness: witness.head,
        });
    }
    match server.cmp_place(&witness.head) {
        Ordering::Less => Some(Halt::ServerLost {
            witness: witness.head,
            server: Some(server),
        }),
        Ordering::Equal if server.hash != witness.head.hash => Some(Halt::OtherHistory {
            witness: witness.head,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::id::RecordHash;
    use proptest::prelude::*;

    const TIMELINE: TimelineId = TimelineId([1; 16]);
    const OURS: RunId = RunId([2; 16]);
    const FOREIGN: RunId = RunId([3; 16]);

    fn head(epoch: u64, seq: u64) -> Head {
        Head {
            epoch,
            seq,
            hash: RecordHash([u8::try_from(seq).unwrap(); 32]),
        }
    }

    fn last(head: Head, run: RunId, version: u64) -> Last {
        Last {
            head,
            run,
            data_version: Some(version),
            unbridged: false,
        }
    }

    fn facts(database: u64, server: Option<Last>, witness: Option<Head>) -> Facts<'static> {
        Facts {
            database,
            database_is_new: false,
            server: server.map(|last| (TIMELINE, last)),
            witness: witness.map(|head| Witness::new(TIMELINE, head, 0)),
            runs: &[OURS],
            due: None,
        }
    }

    #[test]
    fn a_new_node_starts_from_nothing_and_an_old_one_from_a_snapshot() {
        let old = facts(70, None, None);
        assert_eq!(judge(&old), Judgement::Snapshot(Reason::FirstBackup));
        assert_eq!(
            judge(&Facts {
                database: 0,
                database_is_new: true,
                ..old
            }),
            Judgement::Begin
        );
    }

    #[test]
    fn a_server_below_the_witness_halts_whatever_the_database_says() {
        for database in [0, 69, 70, 71] {
            let empty = facts(database, None, Some(head(2, 9)));
            assert!(matches!(
                judge(&empty),
                Judgement::Halt(Halt::ServerLost { server: None, .. })
            ));
            for below in [head(2, 8), head(1, 200)] {
                let less = facts(database, Some(last(below, OURS, 70)), Some(head(2, 9)));
                assert!(matches!(
                    judge(&less),
                    Judgement::Halt(Halt::ServerLost { server: Some(_), .. })
                ));
            }
        }
    }

    #[test]
    fn another_history_halts_even_at_the_same_place() {
        let mut other = head(2, 9);
        other.hash = RecordHash([0xee; 32]);
        let facts_other = facts(70, Some(last(other, OURS, 70)), Some(head(2, 9)));
        assert!(matches!(
            judge(&facts_other),
            Judgement::Halt(Halt::OtherHistory { .. })
        ));

        let mut elsewhere = facts(70, Some(last(head(2, 9), OURS, 70)), Some(head(2, 9)));
        elsewhere.server = elsewhere.server.map(|(_, last)| (TimelineId([9; 16]), last));
        assert!(matches!(
            judge(&elsewhere),
            Judgement::Halt(Halt::OtherHistory { .. })
        ));
    }

    #[test]
    fn equal_versions_go_on_only_behind_a_head_that_was_seen_or_written_here() {
        assert_eq!(
            judge(&facts(70, Some(last(head(2, 9), FOREIGN, 70)), Some(head(2, 9)))),
            Judgement::GoOn
        );
        assert_eq!(
            judge(&facts(70, Some(last(head(2, 10), OURS, 70)), Some(head(2, 9)))),
            Judgement::GoOn
        );
        let unseen = facts(70, Some(last(head(3, 10), FOREIGN, 70)), Some(head(2, 9)));
        assert!(matches!(
            judge(&unseen),
            Judgement::Halt(Halt::UnknownWriter { .. })
        ));
        let unknown = facts(70, Some(last(head(3, 10), FOREIGN, 70)), None);
        assert!(matches!(
            judge(&unknown),
            Judgement::Halt(Halt::UnknownWriter { .. })
        ));
    }

    #[test]
    fn a_database_behind_heals_at_the_next_start_only_where_this_directory_wrote() {
        let behind = facts(68, Some(last(head(2, 9), OURS, 70)), Some(head(2, 7)));
        assert_eq!(judge(&behind), Judgement::Halt(Halt::Behind { by: 2 }));
        let restored = facts(68, Some(last(head(2, 9), FOREIGN, 70)), Some(head(2, 9)));
        assert_eq!(judge(&restored), Judgement::Halt(Halt::Older { by: 2 }));
    }

    #[test]
    fn a_database_ahead_heals_by_a_snapshot_only_at_exactly_the_witness() {
        let at = facts(73, Some(last(head(2, 9), OURS, 70)), Some(head(2, 9)));
        assert_eq!(judge(&at), Judgement::Snapshot(Reason::Unreported(3)));
        let above = facts(73, Some(last(head(2, 9), OURS, 70)), Some(head(2, 8)));
        assert_eq!(judge(&above), Judgement::Halt(Halt::NewerThanForeign { by: 3 }));
        let blind = facts(73, Some(last(head(2, 9), OURS, 70)), None);
        assert_eq!(judge(&blind), Judgement::Halt(Halt::NewerThanForeign { by: 3 }));
    }

    #[test]
    fn a_snapshot_that_is_due_is_taken_where_the_backup_ends_and_heals_nothing_else() {
        let same = facts(70, Some(last(head(2, 9), OURS, 70)), Some(head(2, 9)));
        assert_eq!(judge(&same), Judgement::GoOn);
        for due in [Due::Migrated, Due::Unproved, Due::RollUp] {
            let due_here = Facts {
                due: Some(due),
                ..same.clone()
            };
            assert_eq!(judge(&due_here), Judgement::Renew(due));
            let behind = Facts {
                database: 69,
                ..due_here
            };
            assert_eq!(judge(&behind), Judgement::Halt(Halt::Behind { by: 1 }));
        }
    }

    #[test]
    fn a_gap_whose_snapshot_never_arrived_is_bridged_anew() {
        let gap = Last {
            unbridged: true,
            ..last(head(2, 9), OURS, 70)
        };
        assert_eq!(
            judge(&facts(70, Some(gap), Some(head(2, 9)))),
            Judgement::Snapshot(Reason::Unfinished)
        );
        assert_eq!(
            judge(&facts(71, Some(gap), Some(head(2, 8)))),
            Judgement::Snapshot(Reason::Unfinished)
        );
        assert_eq!(
            judge(&facts(69, Some(gap), Some(head(2, 9)))),
            Judgement::Halt(Halt::Behind { by: 1 })
        );
    }

    proptest! {
        #[test]
        fn less_never_overwrites_more(
            database in 60_u64..80, version in 60_u64..80, epoch in 1_u64..4, seq in 1_u64..20,
            witness in proptest::option::of((1_u64..4, 1_u64..20)), ours in any::<bool>(), unbridged in any::<bool>(),
        ) {
            let server = Last { unbridged, ..last(head(epoch, seq), if ours { OURS } else { FOREIGN }, version) };
            let facts = facts(database, Some(server), witness.map(|(e, s)| head(e, s)));
            let judgement = judge(&facts);
            if database < version {
                prop_assert!(matches!(judgement, Judgement::Halt(_)));
            }
            if witness.is_some_and(|(e, s)| (epoch, seq) < (e, s)) {
                let lost = matches!(judgement, Judgement::Halt(Halt::ServerLost { .. }));
                prop_assert!(lost);
            }
            if judgement == Judgement::GoOn {
                prop_assert_eq!(database, version);
                prop_assert!(!unbridged);
            }
            prop_assert_ne!(judgement, Judgement::Begin);
        }
    }
}
