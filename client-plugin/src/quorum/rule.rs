//! How many servers: the arithmetic on which everything with several of them rests.

use crate::record::Require;

/// A number of servers, and how many of them must hold a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All servers, M.
    pub servers: usize,
    /// How many must hold a record before lightningd may commit, and let a writer open: N, more than half of them.
    pub needed: usize,
}

impl Rule {
    /// The rule for so many servers.
    #[must_use]
    pub fn new(require: Require, servers: usize) -> Self {
        let needed = match require {
            Require::All => servers,
            Require::Majority => servers / 2 + 1,
        };
        Self { servers, needed }
    }

    /// How many servers a restore and a takeover must reach, M - N + 1: among so many is always one that holds the last
    /// acknowledged record, and a writer that they refuse finds no N servers any more (I7).
    #[must_use]
    pub fn to_take_over(&self) -> usize {
        self.servers + 1 - self.needed.min(self.servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Policy;

    #[test]
    fn any_two_openings_and_any_opening_and_takeover_meet_at_a_server() {
        for servers in 1..=Policy::SERVERS_MAX {
            for require in [Require::All, Require::Majority] {
                let rule = Rule::new(require, servers);
                assert!(2 * rule.needed > servers && rule.needed <= servers);
                assert_eq!(rule.needed + rule.to_take_over(), servers + 1);
            }
        }
        assert_eq!(Rule::new(Require::Majority, 3).needed, 2);
        assert_eq!(Rule::new(Require::All, 3).to_take_over(), 1);
    }
}
