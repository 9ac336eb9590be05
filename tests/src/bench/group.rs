//! The parts of the benchmark, to be measured alone by whoever works on one of them.

use anyhow::{Context, Result};

/// Rows that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Starts, sizes of the programs.
    Start,
    /// The hook, on each database; memory of the plugin.
    Hook,
    /// Bytes for each byte of SQL; the hook fills the server for it.
    Bytes,
    /// Restores; of what the hook filled.
    Restore,
    /// The server under load, on each database.
    Server,
    /// The same with slow flushes.
    Slow,
    /// Idle sessions.
    Sessions,
    /// Many nodes in the store.
    Crowd,
    /// First snapshots, and restores of them.
    Snapshot,
    /// Roll-ups.
    RollUp,
}

impl Group {
    /// All of them, with the names by which a person asks for one.
    pub const NAMES: [(&'static str, Self); 10] = [
        ("start", Self::Start),
        ("hook", Self::Hook),
        ("bytes", Self::Bytes),
        ("restore", Self::Restore),
        ("server", Self::Server),
        ("slow", Self::Slow),
        ("sessions", Self::Sessions),
        ("crowd", Self::Crowd),
        ("snapshot", Self::Snapshot),
        ("roll-up", Self::RollUp),
    ];

    /// The groups of a list of names with commas between them.
    pub fn parse(names: &str) -> Result<Vec<Self>> {
        names.split(',').map(Self::named).collect()
    }

    fn named(name: &str) -> Result<Self> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        let (_, group) = known.with_context(|| {
            let names = Self::NAMES.map(|(name, _)| name).join(", ");
            format!("{name} is no part of the benchmark; its parts are {names}")
        })?;
        Ok(*group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_one_by_one_or_several_at_once() {
        assert_eq!(Group::parse("hook").unwrap(), [Group::Hook]);
        assert_eq!(
            Group::parse("slow,roll-up").unwrap(),
            [Group::Slow, Group::RollUp]
        );
        assert!(
            Group::parse("hooks")
                .unwrap_err()
                .to_string()
                .contains("hook, bytes")
        );
    }
}
