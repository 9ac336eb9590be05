//! What is told of every setting: the default file and the page of the documentation, made of the settings themselves.

use super::{
    Cli,
    layers::{DEFAULT_FILE, key, many, settings, variable, with_environment},
};
use clap::{Arg, CommandFactory as _};
use std::fmt::Write as _;

/// What is told of one setting, wherever it is told.
struct Told {
    heading: String,
    key: String,
    /// The flag with what its value is, as `--data DIR`.
    flag: String,
    help: String,
    /// As it stands in a file; `None` where there is no default.
    default: Option<String>,
    /// As it could stand in a file.
    example: String,
}

fn told(setting: &Arg) -> Option<Told> {
    let long = key(setting)?;
    let kind = setting
        .get_value_names()
        .and_then(|names| names.first())
        .map(ToString::to_string)
        .unwrap_or_default();
    let help = setting.get_long_help().or_else(|| setting.get_help());
    let default = setting
        .get_default_values()
        .first()
        .map(|value| value.to_string_lossy().into_owned());
    let bare = |text: &str| text.parse::<u64>().is_ok() || text.parse::<f64>().is_ok() || text == "false";
    let written = |text: &str| {
        if bare(text) {
            text.to_owned()
        } else {
            format!("\"{text}\"")
        }
    };
    Some(Told {
        heading: setting.get_help_heading().unwrap_or("The server").to_owned(),
        key: long.to_owned(),
        help: help.map(|help| format!("{help}.")).unwrap_or_default(),
        flag: if setting.is_require_equals_set() {
            format!("--{long}[={kind}]")
        } else {
            format!("--{long} {kind}")
        },
        example: if many(setting) {
            format!("[\"{kind}\"]")
        } else {
            written(default.as_deref().unwrap_or(&kind))
        },
        default: default.as_deref().map(written),
    })
}

fn all() -> Vec<Told> {
    settings(&with_environment(Cli::command()))
        .filter_map(told)
        .collect()
}

/// A file that says what holds without one, with every setting explained.
pub(super) fn default_file() -> String {
    let mut text = "# Configuration of backstop-server: the defaults. What has none is commented out.
# A flag counts before the environment, the environment before this file. To check it:
#
#     backstop-server check-config --config FILE
"
    .to_owned();
    let mut heading = String::new();
    for setting in all() {
        if heading != setting.heading {
            heading.clone_from(&setting.heading);
            push(&mut text, format_args!("\n# --- {heading}\n"));
        }
        push(&mut text, format_args!("\n"));
        for line in wrapped(&setting.help) {
            push(&mut text, format_args!("# {line}\n"));
        }
        let mark = if setting.default.is_none() { "# " } else { "" };
        push(
            &mut text,
            format_args!("{mark}{} = {}\n", setting.key, setting.example),
        );
    }
    text
}

/// The same as a page of the documentation.
pub(super) fn reference() -> String {
    let mut text = format!(
        "# Configuration

Every setting is a flag of `backstop-server serve`, an environment variable and a key of the configuration file. A flag counts before
the environment, the environment before the file, the file before the default. The file is TOML; it is named by `--config FILE` or
`{}`, else it is `{}` if that exists. A key that is no setting is an error.

`backstop-server default-config` prints a file with the defaults, `backstop-server check-config` says what is wrong with one. On SIGHUP
(`systemctl reload`) the file, the certificate and the log's filter are read again; the log names every other setting that changed,
which needs a restart.

This page is printed by `backstop-server default-config --markdown`.
",
        variable("config"),
        DEFAULT_FILE,
    );
    let mut heading = String::new();
    for setting in all() {
        if heading != setting.heading {
            heading.clone_from(&setting.heading);
            push(
                &mut text,
                format_args!("\n## {heading}\n\n| flag | variable | default | what |\n|---|---|---|---|\n"),
            );
        }
        let default = setting.default.map(|value| format!("`{value}`"));
        push(
            &mut text,
            format_args!(
                "| `{}` | `{}` | {} | {} |\n",
                setting.flag,
                variable(&setting.key),
                default.unwrap_or_default(),
                setting.help,
            ),
        );
    }
    text
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}

/// Lines of at most a hundred characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_the_documentation_is_what_the_program_prints() {
        let page = include_str!("../../../deploy/configuration.md");
        assert!(
            page == reference(),
            "run: backstop-server default-config --markdown > deploy/configuration.md"
        );
    }

    #[test]
    fn lines_are_wrapped_between_words() {
        let text = "word ".repeat(50);
        let lines = wrapped(&text);
        assert!(lines.iter().all(|line| line.len() <= 100));
        assert_eq!(lines.join(" "), text.trim());
    }
}
