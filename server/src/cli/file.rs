//! The configuration file: TOML, one key for each setting, named like its flag. A key that is no setting is an error,
//! because a setting that is misspelt is one that is not made.

use super::layers::{every, key, many, settings};
use clap::{Arg, Command};
use std::{
    error::Error as _,
    io,
    path::{Path, PathBuf},
};
use toml::de::{DeTable, DeValue};

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot read the configuration {}: {cause}; name another with --config FILE", .file.display())]
    Unreadable { file: PathBuf, cause: io::Error },
    #[error("{}, line {line}: {message}", .file.display())]
    Wrong {
        file: PathBuf,
        line: usize,
        message: String,
    },
}

/// What a file says.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    values: Vec<String>,
    line: usize,
}

impl File {
    /// Reads it, without judging the values.
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|cause| FileError::Unreadable {
            file: path.to_owned(),
            cause,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let wrong = |at: usize, message: String| FileError::Wrong {
            file: path.to_owned(),
            line: line(at),
            message,
        };
        let table = DeTable::parse(text).map_err(|error| {
            wrong(
                error.span().map_or(0, |span| span.start),
                error.message().to_owned(),
            )
        })?;
        let mut entries = Vec::new();
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            let name = key.get_ref().to_string();
            let values = match value.get_ref() {
                DeValue::Array(array) => array.iter().map(|value| plain(value.get_ref())).collect(),
                single => plain(single).map(|value| vec![value]),
            };
            entries.push(Entry {
                values: values.ok_or_else(|| {
                    wrong(
                        at,
                        format!("{name} must be a text, a number, true or false, or a list of such"),
                    )
                })?,
                key: name,
                line: line(at),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            entries,
        })
    }

    /// The command with the file's values in the place of its defaults, each of them judged.
    pub(super) fn over(&self, command: Command) -> Result<Command, FileError> {
        for entry in &self.entries {
            self.judge(entry, &command)?;
        }
        let value = |arg: &Arg| {
            let long = key(arg)?;
            self.entries.iter().find(|entry| entry.key == long)
        };
        Ok(every(command, &|arg| match value(&arg) {
            Some(entry) => arg.default_values(entry.values.clone()),
            None => arg,
        }))
    }

    fn judge(&self, entry: &Entry, command: &Command) -> Result<(), FileError> {
        let wrong = |message: String| FileError::Wrong {
            file: self.path.clone(),
            line: entry.line,
            message,
        };
        let Some(setting) = settings(command).find(|arg| key(arg) == Some(&entry.key)) else {
            return Err(wrong(format!(
                "{} is no setting; backstop-server default-config lists them all",
                entry.key
            )));
        };
        if entry.values.len() != 1 && !many(setting) {
            return Err(wrong(format!("{} takes one value", entry.key)));
        }
        for value in &entry.values {
            // Read by itself, without what flags and environment say.
            let line = ["serve".to_owned(), format!("--{}={value}", entry.key)];
            let alone =
                Command::new("serve").arg(setting.clone().env(None::<&str>).default_value(None::<&str>));
            if let Err(error) = alone.try_get_matches_from(line) {
                let why = error.source().map_or_else(
                    || "not one of the values that it takes".to_owned(),
                    ToString::to_string,
                );
                return Err(wrong(format!("{} = {value:?}: {why}", entry.key)));
            }
        }
        Ok(())
    }
}

/// A value as a flag takes it.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
