//! One thing that was looked at.

use serde::Serialize;
use std::fmt;

/// What was looked at, and what was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Finding {
    /// What was looked at, in a word that stays the same.
    pub(in crate::cli) check: &'static str,
    /// How bad it is.
    pub(in crate::cli) level: Level,
    /// For a person: what was found, what it means, and what mends it.
    pub(in crate::cli) says: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Level {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Skipped,
    /// Protected as things stand; worth a thought.
    Warning,
    /// The node is unprotected, or a restore would fail.
    Wrong,
}

impl Finding {
    pub(in crate::cli) fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, says)
    }

    pub(in crate::cli) fn skipped(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Level::Skipped, says)
    }

    pub(in crate::cli) fn warning(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Level::Warning, says)
    }

    pub(in crate::cli) fn wrong(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Level::Wrong, says)
    }

    fn new(check: &'static str, level: Level, says: impl Into<String>) -> Self {
        let says = says.into();
        Self { check, level, says }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
        })
    }
}
