//! How much room a server gives a node (SPEC 7.5).

use serde::{Deserialize, Serialize};

/// How far a node's use has come. What follows from it is the server's (I13): history yields first, appends are refused
/// last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum QuotaLevel {
    /// There is room.
    Within,
    /// Most of the quota is used.
    Near,
    /// More than the quota is used.
    Overdraft,
    /// The overdraft is used too: the next record may be refused.
    Exhausted,
    /// A level that this program is too old to know.
    #[serde(other)]
    Unknown,
}

impl QuotaLevel {
    /// The stable text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::Near => "near",
            Self::Overdraft => "overdraft",
            Self::Exhausted => "exhausted",
            Self::Unknown => "unknown",
        }
    }
}

/// A node's room, and how much of it is used; all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// What the node may use.
    pub bytes: u64,
    /// What it uses: sealed records, those that were replaced, packs, manifests, files.
    pub used: u64,
    /// What it may use before packs and files are refused; above `bytes`, so that a roll-up can make room.
    pub packs: u64,
    /// What it may use before records are refused: the quota and the whole overdraft.
    pub most: u64,
    /// How far it has come.
    pub level: QuotaLevel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_from_the_future_is_unknown_and_not_an_error() {
        let level: QuotaLevel = serde_json::from_str("\"beyond\"").unwrap();
        assert_eq!(level, QuotaLevel::Unknown);
        for level in [
            QuotaLevel::Within,
            QuotaLevel::Near,
            QuotaLevel::Overdraft,
            QuotaLevel::Exhausted,
        ] {
            assert_eq!(
                serde_json::to_string(&level).unwrap(),
                format!("\"{}\"", level.as_str())
            );
        }
    }
}
