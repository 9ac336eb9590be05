//! The table of SPEC 8.3, stated a second time in the words of a case, and every combination held to it.

use super::*;
use backstop_protocol::id::RecordHash;
use std::collections::BTreeMap;

const SPEC: &str = include_str!("../../../../protocol/SPEC.md");

const TIMELINE: TimelineId = TimelineId([1; 16]);
const OURS: RunId = RunId([2; 16]);
const FOREIGN: RunId = RunId([3; 16]);
/// Where the backup ends, where it has a batch.
const BACKUP: u64 = 70;

/// Where the server's last record stands, seen from the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BelowBySeq,
    BelowByEpoch,
    Same,
    SameWithAnotherHash,
    AboveBySeq,
    AboveByEpoch,
}

const PLACES: [Place; 6] = [
    Place::BelowBySeq,
    Place::BelowByEpoch,
    Place::Same,
    Place::SameWithAnotherHash,
    Place::AboveBySeq,
    Place::AboveByEpoch,
];

#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each word of the table")]
struct Server {
    other_timeline: bool,
    place: Place,
    ours: bool,
    batch_ours: bool,
    has_batch: bool,
    unbridged: bool,
}

/// One start, in the words of the table.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Nothing where it has no record.
    server: Option<Server>,
    witness: bool,
    empty_file: bool,
    database: u64,
    due: Option<Due>,
}

impl Case {
    fn server(&self, fits: impl FnOnce(&Server) -> bool) -> bool {
        self.server.as_ref().is_some_and(fits)
    }

    fn is_new(&self) -> bool {
        self.empty_file && self.database == 0
    }

    /// Whether the last record is the witness.
    fn is_witness(&self) -> bool {
        self.witness && self.server(|server| server.place == Place::Same && !server.other_timeline)
    }

    /// Whether the backup is known to lead to a version, and which.
    fn backup(&self) -> Option<u64> {
        self.server(|server| server.has_batch).then_some(BACKUP)
    }

    fn facts(&self) -> Facts<'static> {
        let witness = head(5, 100, 1);
        let last = |server: Server| Last {
            head: match server.place {
                Place::BelowBySeq => head(5, 99, 1),
                Place::BelowByEpoch => head(4, 300, 1),
                Place::Same => witness,
                Place::SameWithAnotherHash => head(5, 100, 2),
                Place::AboveBySeq => head(5, 101, 1),
                Place::AboveByEpoch => head(6, 90, 1),
            },
            run: if server.ours { OURS } else { FOREIGN },
            data_version: server.has_batch.then_some(BACKUP),
            wrote: if server.batch_ours { OURS } else { FOREIGN },
            unbridged: server.unbridged,
        };
        let timeline = |server: Server| TimelineId([1 + u8::from(server.other_timeline); 16]);
        Facts {
            database: self.database,
            database_is_new: self.is_new(),
            server: self.server.map(|server| (timeline(server), last(server))),
            witness: self.witness.then(|| Witness::new(TIMELINE, witness, BACKUP)),
            runs: &[OURS],
            due: self.due,
        }
    }
}

fn head(epoch: u64, seq: u64, hash: u8) -> Head {
    Head {
        epoch,
        seq,
        hash: RecordHash([hash; 32]),
    }
}

/// What comes of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Begin,
    GoOn,
    Snapshot,
    Renew,
    ServerLost,
    OtherHistory,
    UnknownWriter,
    Gone,
    Behind,
    Older,
    Newer,
}

/// Also checks what a judgement says beside its kind.
fn outcome(case: &Case) -> Outcome {
    let (above, below) = (
        case.database.saturating_sub(BACKUP),
        BACKUP.saturating_sub(case.database),
    );
    match judge(&case.facts()) {
        Judgement::Begin => Outcome::Begin,
        Judgement::GoOn => Outcome::GoOn,
        Judgement::Snapshot(Reason::Unreported(by)) => {
            assert_eq!(by, above);
            Outcome::Snapshot
        }
        Judgement::Snapshot(_) => Outcome::Snapshot,
        Judgement::Renew(due) => {
            assert_eq!(Some(due), case.due);
            Outcome::Renew
        }
        Judgement::Halt(halt) => match halt {
            Halt::ServerLost { server, .. } => {
                assert_eq!(server.is_some(), case.server.is_some());
                Outcome::ServerLost
            }
            Halt::OtherHistory { .. } => Outcome::OtherHistory,
            Halt::UnknownWriter { .. } => Outcome::UnknownWriter,
            Halt::Empty { by } => {
                assert_eq!(by, BACKUP);
                Outcome::Gone
            }
            Halt::Behind { by } => {
                assert_eq!(by, below);
                Outcome::Behind
            }
            Halt::Older { by } => {
                assert_eq!(by, below);
                Outcome::Older
            }
            Halt::Newer { by } => {
                assert_eq!(by, above);
                Outcome::Newer
            }
        },
    }
}

/// A row of the table as SPEC has it, when it fits, and what it gives.
struct Row {
    cells: [&'static str; 4],
    fits: fn(&Case) -> bool,
    gives: Outcome,
}

const fn row(cells: [&'static str; 4], fits: fn(&Case) -> bool, gives: Outcome) -> Row {
    Row { cells, fits, gives }
}

/// What is decided before there is anything to judge.
const BEFORE: [[&str; 4]; 5] = [
    ["V1", "another process holds the directory's lock", "any", "halt"],
    [
        "V2",
        "the directory is a copy (inode of its `runs` file, or the machine's id, changed)",
        "any",
        "halt",
    ],
    [
        "V3",
        "fewer than N servers answer (8.7)",
        "any",
        "wait, and halt once the operator's limit is over",
    ],
    ["V4", "`other_instance`", "any", "halt: taken over"],
    ["V5", "`server_restored`", "any", "halt: the owner adopts"],
];

const SNAPSHOT: &str = "a gap and its snapshot, then the batch";

const ROWS: [Row; 19] = [
    row(
        [
            "V6",
            "no record, `W` exists",
            "any",
            "halt: the server lost records",
        ],
        |case| case.server.is_none() && case.witness,
        Outcome::ServerLost,
    ),
    row(
        [
            "V7",
            "no record, no `W`",
            "empty file, `D = 0`",
            "begin: a policy record, then the batch",
        ],
        |case| case.server.is_none() && !case.witness && case.is_new(),
        Outcome::Begin,
    ),
    row(
        [
            "V8",
            "no record, no `W`",
            "else",
            "a policy record, a gap and its snapshot, then the batch",
        ],
        |case| case.server.is_none() && !case.witness,
        Outcome::Snapshot,
    ),
    row(
        ["V9", "another timeline than `W`", "any", "halt: another history"],
        |case| case.witness && case.server(|server| server.other_timeline),
        Outcome::OtherHistory,
    ),
    row(
        [
            "V10",
            "`L` below `W` by (epoch, seq)",
            "any",
            "halt: the server lost records",
        ],
        |case| {
            let below = [Place::BelowBySeq, Place::BelowByEpoch];
            case.witness && case.server(|server| below.contains(&server.place))
        },
        Outcome::ServerLost,
    ),
    row(
        [
            "V11",
            "`L` at the place of `W` with another hash",
            "any",
            "halt: another history",
        ],
        |case| case.witness && case.server(|server| server.place == Place::SameWithAnotherHash),
        Outcome::OtherHistory,
    ),
    row(
        [
            "V12",
            "`L` is not `W`, and its run is not in `runs`",
            "any",
            "halt: an unknown writer",
        ],
        |case| !case.is_witness() && case.server(|server| !server.ours),
        Outcome::UnknownWriter,
    ),
    row(
        ["V13", "no batch yet", "empty file, `D = 0`", "go on"],
        |case| case.backup().is_none() && case.is_new(),
        Outcome::GoOn,
    ),
    row(
        ["V14", "no batch yet", "else", SNAPSHOT],
        |case| case.backup().is_none(),
        Outcome::Snapshot,
    ),
    row(
        ["V15", "`L` known", "`D = 0`", "halt: the database is gone"],
        |case| case.database == 0,
        Outcome::Gone,
    ),
    row(
        [
            "V16",
            "`L` known",
            "`D < B`, `B`'s run in `runs`",
            "halt; the next start rolls forward (8.4)",
        ],
        |case| case.database < BACKUP && case.server(|server| server.batch_ours),
        Outcome::Behind,
    ),
    row(
        ["V17", "`L` known", "`D < B`, else", "halt: older than the backup"],
        |case| case.database < BACKUP,
        Outcome::Older,
    ),
    row(
        [
            "V18",
            "`L` is an unbridged gap",
            "`D >= B`",
            "a new gap and its snapshot, then the batch",
        ],
        |case| case.server(|server| server.unbridged),
        Outcome::Snapshot,
    ),
    row(
        [
            "V19",
            "`L` known",
            "`D = B`, and a run migrated the schema since the last snapshot",
            "a snapshot of the database on `L`, if it can be had, then the batch",
        ],
        |case| case.database == BACKUP && case.due == Some(Due::Migrated),
        Outcome::Renew,
    ),
    row(
        [
            "V20",
            "`L` known",
            "`D = B`, `proof` is one that found a difference, and no snapshot stands above its `seq`",
            "the same",
        ],
        |case| case.database == BACKUP && case.due == Some(Due::Unproved),
        Outcome::Renew,
    ),
    row(
        [
            "V21",
            "`L` known",
            "`D = B`, `roll_up` is asked for, and the directory keeps no shadow (8.6)",
            "the same",
        ],
        |case| case.database == BACKUP && case.due == Some(Due::RollUp),
        Outcome::Renew,
    ),
    row(
        ["V22", "`L` known", "`D = B`", "go on"],
        |case| case.database == BACKUP,
        Outcome::GoOn,
    ),
    row(
        ["V23", "`L` is `W`", "`D > B`", SNAPSHOT],
        Case::is_witness,
        Outcome::Snapshot,
    ),
    row(
        [
            "V24",
            "`L` above `W`, or no `W`",
            "`D > B`",
            "halt: newer than a backup whose end this directory did not see",
        ],
        |case| {
            let above = [Place::AboveBySeq, Place::AboveByEpoch];
            case.database > BACKUP && (!case.witness || case.server(|server| above.contains(&server.place)))
        },
        Outcome::Newer,
    ),
];

/// Every combination of what the judgement rests on; versions by 0, 1 and many.
fn cases() -> Vec<Case> {
    let mut servers = vec![None];
    for other_timeline in [false, true] {
        for place in PLACES {
            for bits in 0..16 {
                servers.push(Some(Server {
                    other_timeline,
                    place,
                    ours: bits & 1 != 0,
                    has_batch: bits & 2 != 0,
                    unbridged: bits & 4 != 0,
                    batch_ours: bits & 8 != 0,
                }));
            }
        }
    }
    let versions = [0, 1, BACKUP - 2, BACKUP - 1, BACKUP, BACKUP + 1, BACKUP + 30];
    let dues = [None, Some(Due::Migrated), Some(Due::Unproved), Some(Due::RollUp)];
    let mut cases = Vec::new();
    for server in servers {
        for witness in [false, true] {
            for database in versions {
                // A file that holds a version is not empty.
                for empty_file in [false, true].into_iter().filter(|empty| !empty || database == 0) {
                    for due in dues {
                        cases.push(Case {
                            server,
                            witness,
                            empty_file,
                            database,
                            due,
                        });
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn every_combination_falls_in_a_row_of_the_table_and_comes_out_as_that_row_says() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases() {
        let row = ROWS.iter().find(|row| (row.fits)(&case));
        let row = row.unwrap_or_else(|| panic!("no row fits {case:?}"));
        assert_eq!(outcome(&case), row.gives, "{}: {case:?}", row.cells[0]);
        *met.entry(row.cells[0]).or_default() += 1;
    }
    for row in &ROWS {
        assert!(
            met.contains_key(row.cells[0]),
            "nothing falls in {}",
            row.cells[0]
        );
    }
}

#[test]
fn the_table_is_the_one_of_the_specification() {
    let rows = SPEC.lines().filter(|line| line.starts_with("| V"));
    let written: Vec<Vec<&str>> = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let stated = BEFORE.iter().chain(ROWS.iter().map(|row| &row.cells));
    assert_eq!(written, stated.map(|cells| cells.to_vec()).collect::<Vec<_>>());
}

#[test]
fn less_never_overwrites_more_whatever_else_is_so() {
    for case in cases() {
        let judgement = judge(&case.facts());
        let halts = matches!(judgement, Judgement::Halt(_));
        if case.backup().is_some_and(|backup| case.database < backup) {
            assert!(halts, "a database that is behind goes on: {case:?}");
        }
        if case.witness
            && case.server.is_none_or(|server| {
                server.other_timeline || matches!(server.place, Place::BelowBySeq | Place::BelowByEpoch)
            })
        {
            assert!(halts, "a server that is not where it was goes on: {case:?}");
        }
        if case.server(|server| !server.ours) && !case.is_witness() {
            assert!(halts, "an unknown writer goes unnoticed: {case:?}");
        }
    }
}
