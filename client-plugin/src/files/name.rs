//! The name of a file beside the database, seen from the network's directory.

use serde::{Deserialize, Serialize};
use std::{fmt, path::Path, path::PathBuf, str::FromStr};

/// Longest name, bytes.
const LEN_MAX: usize = 200;
/// Where all the node's keys come from.
const SECRET: &str = "hsm_secret";
/// With what the names of the database and its companions begin.
const DATABASE: &str = "lightningd.sqlite3";
/// What comes before the name of a file in the lightning-dir itself.
const ABOVE: &str = "../";

/// A file in the network's directory, or in the lightning-dir above it. Neither a path into other directories nor the
/// node's secret has a spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// Why a text is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a plain name, with or without `../` before it.
    #[error(
        "a file beside the database is named by its plain name, or by ../ and that where it lies in the lightning-dir; one \
         elsewhere can be linked there"
    )]
    Form,
    /// The node's secret.
    #[error("hsm_secret is never uploaded: keep its words, or a copy of the file, elsewhere")]
    Secret,
    /// The database has a better way.
    #[error("the database is backed up already, and a copy of its file would not be whole")]
    Database,
}

impl FileName {
    /// CLN's emergency recovery file: the last resort where no database is left.
    pub const EMERGENCY: &'static str = "emergency.recover";

    /// What is backed up where the operator says nothing else.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        [Self::EMERGENCY, "config", "config.setconfig", "../config"]
            .map(|name| Self(name.to_owned()))
            .into()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is [`Self::EMERGENCY`].
    #[must_use]
    pub fn is_emergency(&self) -> bool {
        self.0 == Self::EMERGENCY
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self, network_dir: &Path) -> PathBuf {
        match (self.0.strip_prefix(ABOVE), network_dir.parent()) {
            (Some(plain), Some(above)) => above.join(plain),
            _ => network_dir.join(&self.0),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FileName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let plain = text.strip_prefix(ABOVE).unwrap_or(text);
        if text.len() > LEN_MAX
            || matches!(plain, "" | "." | "..")
            || plain.chars().any(|c| c == '/' || c.is_control())
        {
            return Err(BadName::Form);
        }
        if plain == SECRET {
            return Err(BadName::Secret);
        }
        if plain.starts_with(DATABASE) {
            return Err(BadName::Database);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for FileName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_stays_in_the_two_directories_of_the_node() {
        let path = |text: &str| {
            text.parse::<FileName>()
                .map(|name| name.path(Path::new("/l/regtest")))
        };
        assert_eq!(path("config"), Ok("/l/regtest/config".into()));
        assert_eq!(path("../config"), Ok("/l/config".into()));
        assert_eq!(path("..a"), Ok("/l/regtest/..a".into()));
        for wrong in [
            "",
            ".",
            "..",
            "../",
            "../..",
            "../.",
            "/etc/passwd",
            "a/b",
            "../../a",
            "./a",
            "a/",
            "a\0b",
            "a\nb",
            "../bitcoin/config",
        ] {
            assert_eq!(path(wrong), Err(BadName::Form), "{wrong:?}");
        }
        assert!(path(&"a".repeat(LEN_MAX)).is_ok());
        assert_eq!(path(&"a".repeat(LEN_MAX + 1)), Err(BadName::Form));
    }

    #[test]
    fn the_secret_and_the_database_have_no_name() {
        for wrong in ["hsm_secret", "../hsm_secret"] {
            assert_eq!(wrong.parse::<FileName>(), Err(BadName::Secret));
        }
        for wrong in [
            "lightningd.sqlite3",
            "lightningd.sqlite3-wal",
            "../lightningd.sqlite3",
        ] {
            assert_eq!(wrong.parse::<FileName>(), Err(BadName::Database));
        }
    }

    #[test]
    fn the_defaults_are_names() {
        for name in FileName::defaults() {
            assert_eq!(name.as_str().parse(), Ok(name));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_a_name_has_a_path_right_in_one_of_them(text in "(\\.\\./)?[ -~é]{0,12}") {
            if let Ok(name) = text.parse::<FileName>() {
                let path = name.path(Path::new("/l/regtest"));
                prop_assert!(matches!(path.parent().and_then(Path::to_str), Some("/l" | "/l/regtest")));
            }
        }
    }
}
