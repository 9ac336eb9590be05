//! CLN's configuration files, as far as they say where a node is (`common/configdir.c`).

use std::{
    io,
    path::{Path, PathBuf},
};

/// CLN follows as many `include` lines into one another.
const INCLUDE_DEPTH: u32 = 100;

/// One option, with its place for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The part before `=`.
    pub name: String,
    /// The part behind it, without white space at the end; `None` where there is no `=`.
    pub value: Option<String>,
    /// The file.
    pub file: PathBuf,
    /// The line in it, counted from 1.
    pub line: usize,
}

/// Why a configuration file cannot be used; lightningd and lightning-cli would stop for the same reason.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Files include one another without an end.
    #[error("{path} is included in a circle")]
    Circle {
        /// The file at which the count was exceeded.
        path: PathBuf,
    },
}

/// The settings of the file at `path` and of those it includes, in order: of one name, the last one counts.
/// A file that is not there has none, unless it must exist.
pub fn read(path: &Path, must_exist: bool) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    gather(&mut settings, path, must_exist, INCLUDE_DEPTH)?;
    Ok(settings)
}

fn gather(out: &mut Vec<Setting>, path: &Path, must_exist: bool, depth: u32) -> Result<(), ConfigError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(()),
        Err(reason) => {
            return Err(ConfigError::Io {
                path: path.to_owned(),
                reason,
            });
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(included) = line.strip_prefix("include ") {
            let included = path.parent().unwrap_or(Path::new("")).join(included);
            let depth = depth.checked_sub(1).ok_or_else(|| ConfigError::Circle {
                path: included.clone(),
            })?;
            gather(out, &included, true, depth)?;
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.trim_end().to_owned())),
            None => (line, None),
        };
        out.push(Setting {
            name: name.to_owned(),
            value,
            file: path.to_owned(),
            line: number + 1,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(settings: &[Setting]) -> Vec<(&str, Option<&str>)> {
        settings
            .iter()
            .map(|s| (s.name.as_str(), s.value.as_deref()))
            .collect()
    }

    #[test]
    fn included_files_stand_where_their_line_stands() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(
            dir.path().join("config"),
            "# x\n\na=1 \r\ninclude sub/more\nflag\nb=x=y\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("sub/more"), "include last\na=2\n").unwrap();
        std::fs::write(dir.path().join("sub/last"), "a=3").unwrap();
        let settings = read(&dir.path().join("config"), true).unwrap();
        assert_eq!(
            pairs(&settings),
            [
                ("a", Some("1")),
                ("a", Some("3")),
                ("a", Some("2")),
                ("flag", None),
                ("b", Some("x=y"))
            ]
        );
        assert_eq!((settings[0].line, settings[3].line), (3, 5));
    }

    #[test]
    fn a_file_that_need_not_exist_has_no_settings() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join("config"), false).unwrap().is_empty());
        assert!(matches!(
            read(&dir.path().join("config"), true),
            Err(ConfigError::Io { .. })
        ));
        std::fs::write(dir.path().join("config"), "include nowhere").unwrap();
        assert!(matches!(
            read(&dir.path().join("config"), false),
            Err(ConfigError::Io { .. })
        ));
    }

    #[test]
    fn files_that_include_one_another_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config"), "include config").unwrap();
        assert!(matches!(
            read(&dir.path().join("config"), true),
            Err(ConfigError::Circle { .. })
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("config"), bytes).unwrap();
            let _ = read(&dir.path().join("config"), true);
        }
    }
}
