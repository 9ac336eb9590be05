//! May this directory go on from where the backup ends? (SPEC 8, I5, I6, I7)
//!
//! A pure function of what is known before the first batch of a run is answered: rows V6 to V24 of the table in SPEC 8.3,
//! which the tests hold it to. The witness is judged first: a server below it has lost records, and nothing here heals that.

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
    /// The run that wrote that batch or gap; of the record itself where there is neither.
    pub(super) wrote: RunId,
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
    /// There is no database, and the backup has one.
    Empty {
        /// By how many versions the backup is ahead.
        by: u64,
    },
    /// The database is newer than the backup, which this directory wrote, but not where it saw that acknowledged.
    Newer {
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
        Ordering::Less if facts.database == 0 => Judgement::Halt(Halt::Empty { by: backup }),
        Ordering::Less => {
            let by = backup - facts.database;
            let ours = facts.runs.contains(&last.wrote);
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
                Judgement::Halt(Halt::Newer { by })
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
mod model_tests;
#[cfg(test)]
mod tests;
