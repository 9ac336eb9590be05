//! Why the node is not allowed to go on, in words that a person can act on.
//!
//! Each says what happened, what it means for the funds, and what to type next. The last line of lightningd's log
//! before it stops is one of these.

use super::judge::Halt;
use crate::{directory::DirectoryError, remote::RemoteError};
use backstop_protocol::{clock::UnixMillis, problem::ProblemCode};
use std::{fmt, path::Path};

/// A refusal to let lightningd commit. Nothing that it was about to do has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Halted {
    text: String,
    /// Whether another machine took the node over, and may have said in the backup which one it is.
    taken: bool,
}

impl fmt::Display for Halted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<DirectoryError> for Halted {
    fn from(error: DirectoryError) -> Self {
        Self::new(format!("{error}. The node is halted; nothing is lost."))
    }
}

impl Halted {
    /// A reason of its own.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            text: message.into(),
            taken: false,
        }
    }

    /// From a judgement.
    pub(super) fn judged(halt: Halt, network_dir: &Path) -> Self {
        let dir = Where(network_dir);
        Self::new(match halt {
            Halt::ServerLost { witness, server } => {
                let has = server.map_or("nothing".to_owned(), |head| format!("record {}", head.seq));
                format!(
                    "The server holds {has} of this node, but record {} was acknowledged: the server lost data or serves \
                     an old copy of it. Nothing is lost here: this database is complete. Do not delete it. Ask whoever runs \
                     the server to bring its data back, then start lightningd again. If they are gone for good, type: \
                     backstop adopt {dir} --server-lost-records",
                    witness.seq
                )
            }
            Halt::OtherHistory { witness } => format!(
                "The server holds another history of this node than the one that ended here in record {}. Another machine \
                 may be running this node. To go on there, leave this one off; to see more, type: backstop status {dir}",
                witness.seq
            ),
            Halt::UnknownWriter { server } => format!(
                "Record {} on the server was written by a machine that this directory does not know. Another machine may \
                 be running this node: running it here too would lose channel funds. If this is the only machine left, \
                 type: backstop adopt {dir}",
                server.seq
            ),
            Halt::Behind { by } => format!(
                "This database lacks the last {by} update(s) that were backed up: the machine crashed before they reached \
                 the disk. Nothing is lost: start lightningd again, and they are applied before it opens the database."
            ),
            Halt::Older { by } => format!(
                "This database is {by} update(s) older than the backup: starting on it would lose channel funds. Nothing is \
                 lost: the backup has the newer state. To bring this directory forward, type: backstop adopt {dir}"
            ),
            Halt::Empty { by } => format!(
                "There is no database here, and the backup has one of version {by}: a new one in its place would lose \
                 channel funds. Nothing is lost. Remove the empty file that lightningd just made, and to get the database \
                 back type: {}",
                Restore(network_dir)
            ),
            Halt::Newer { by } => format!(
                "This database is {by} update(s) newer than the backup, which does not end where this directory last saw it \
                 acknowledged: lightningd went on without the backup, or the server lost what came after. Nothing is lost: \
                 this database is the complete one. Do not delete it. To go on from it, type: backstop adopt {dir} \
                 --server-lost-records"
            ),
        })
    }

    /// The directory was copied, or the disk moved to another machine.
    pub(super) fn copied(network_dir: &Path) -> Self {
        Self::new(format!(
            "This directory is a copy of the one that is backed up, or it was moved to another machine. If the original \
             still runs, this one must not: two machines with one node lose channel funds. Nothing is lost. If this is \
             the only one left, type: backstop adopt {}",
            Where(network_dir)
        ))
    }

    /// The database is behind, and the attempt to bring it forward at this start did not succeed.
    pub(super) fn not_recovered(by: u64, reason: &str, network_dir: &Path) -> Self {
        Self::new(format!(
            "This database lacks the last {by} update(s) that were backed up, and they could not be applied at this \
             start: {reason}. Nothing is lost: the backup has them. Start lightningd again; if this message comes \
             back, type: backstop adopt {}",
            Where(network_dir)
        ))
    }

    /// From a refusal of a server that time will not heal.
    pub(super) fn refused(error: &RemoteError, network_dir: &Path) -> Self {
        let dir = Where(network_dir);
        let RemoteError::Refused { url, problem } = error else {
            return Self::new(format!(
                "{error}. The node is halted; nothing is lost. To check the settings: backstop status {dir}"
            ));
        };
        let since = problem
            .since
            .map_or(String::new(), |at| format!(" at {}", Utc(at)));
        let taken = matches!(
            problem.code,
            ProblemCode::OtherInstance | ProblemCode::Fenced | ProblemCode::EpochMismatch
        );
        let text = match problem.code {
            ProblemCode::OtherInstance | ProblemCode::Fenced | ProblemCode::EpochMismatch => format!(
                "Another machine or directory took this node over{since}. This one must not act any more: it would lose \
                 channel funds. Nothing is lost: the other one holds the newest state. Leave this one off; only if the \
                 other one is gone for good, type: backstop adopt {dir}"
            ),
            ProblemCode::ServerRestored => format!(
                "{url} says that its own data were restored from a copy{since}: it may lack records of this node. The node is \
                 halted; nothing is lost. To compare the two and go on, type: backstop adopt {dir}"
            ),
            ProblemCode::GrantRevoked
            | ProblemCode::GrantExpired
            | ProblemCode::GrantInvalid
            | ProblemCode::GrantMissing => {
                format!(
                    "{url} no longer accepts this node's grant: {problem}. Nothing is lost. To sign a new one, type: \
                     backstop setup {dir} --server {url}"
                )
            }
            _ => format!(
                "{url} refused: {problem}. The node is halted; nothing is lost. To see more: backstop status {dir}"
            ),
        };
        Self { text, taken }
    }

    /// Whether another machine took the node over, which nobody asked for its name yet.
    pub(super) fn is_taken(&self) -> bool {
        self.taken
    }

    /// With what the machine that took the node over says of itself, where it does.
    pub(super) fn by(self, machine: Option<&str>) -> Self {
        let text = match machine {
            // Behind the first sentence, which says that and when: the last one is what to type.
            Some(machine) => self.text.replacen(". ", &format!(", by {machine}. "), 1),
            None => self.text,
        };
        Self { text, taken: false }
    }

    /// A server that did not answer, or had no room, for as long as the operator allows.
    pub(super) fn waited(seconds: u64, error: &RemoteError) -> Self {
        let again = if error.code() == Some(ProblemCode::StorageFull) {
            "ask whoever runs the server to make room there, and start lightningd again then"
        } else {
            "start lightningd again once the server is back"
        };
        Self::new(format!(
            "No server took the update for {seconds} s: {error}. The node is halted, as configured (outage.halt_after_seconds). \
             Nothing is lost: {again}; channels are safe for as long as no payment in flight reaches its time-out, some hours."
        ))
    }
}

/// The arguments that name this directory on the command line.
struct Where<'a>(&'a Path);

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.0.file_name().unwrap_or_default().to_string_lossy();
        let lightning_dir = self.0.parent().unwrap_or(Path::new("."));
        write!(
            f,
            "--lightning-dir {} --network {network}",
            lightning_dir.display()
        )
    }
}

/// The command that brings this directory's database back.
struct Restore<'a>(&'a Path);

impl fmt::Display for Restore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.0.file_name().unwrap_or_default().to_string_lossy();
        let lightning_dir = self.0.parent().unwrap_or(Path::new("."));
        write!(
            f,
            "backstop restore --server URL --to {} --network {network} --hsm-secret {}",
            lightning_dir.display(),
            self.0.join("hsm_secret").display()
        )
    }
}

/// A point in time as people write it: `2026-11-22 14:03:07 UTC`.
pub(crate) struct Utc(pub(crate) UnixMillis);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Civil date from days since 1970, by years of 365.2425 days that begin in March.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::{head::Head, id::RecordHash, problem::Problem};

    #[test]
    fn times_are_written_as_people_write_them() {
        assert_eq!(Utc(UnixMillis(0)).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(
            Utc(UnixMillis(951_782_400_000)).to_string(),
            "2000-02-29 00:00:00 UTC"
        );
        assert_eq!(
            Utc(UnixMillis(1_795_356_187_999)).to_string(),
            "2026-11-22 14:03:07 UTC"
        );
    }

    #[test]
    fn every_halt_says_what_it_means_and_what_to_do() {
        let head = Head {
            epoch: 1,
            seq: 7,
            hash: RecordHash([1; 32]),
        };
        let halts = [
            Halt::ServerLost {
                witness: head,
                server: None,
            },
            Halt::OtherHistory { witness: head },
            Halt::UnknownWriter { server: head },
            Halt::Behind { by: 2 },
            Halt::Older { by: 2 },
            Halt::Empty { by: 2 },
            Halt::Newer { by: 2 },
        ];
        for halt in halts {
            let text = Halted::judged(halt, Path::new("/n/regtest")).to_string();
            assert!(
                text.contains("type: backstop") || text.contains("start"),
                "{text}"
            );
        }
        let mut problem = Problem::new(ProblemCode::OtherInstance, "");
        problem.since = Some(UnixMillis(0));
        let taken = RemoteError::Refused {
            url: "http://s".into(),
            problem: Box::new(problem),
        };
        let text = Halted::refused(&taken, Path::new("/n/regtest")).to_string();
        assert!(
            text.contains("took this node over at 1970-01-01 00:00:00 UTC"),
            "{text}"
        );
        assert!(text.contains("--lightning-dir /n --network regtest"), "{text}");
    }
}
