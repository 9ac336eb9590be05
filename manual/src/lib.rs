//! What shells and `man` read about a command line, made of the command line itself: the same for both programs.

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Print the completions for a shell.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell.
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints those of this command line.
    ///
    /// # Errors
    ///
    /// Where standard output is gone.
    pub fn print(&self, mut command: Command) -> anyhow::Result<()> {
        let mut text = Vec::new();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut text);
        Ok(io::stdout().write_all(&text)?)
    }
}

/// Write the manual's pages, one for each command, into a directory.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// The directory; it must exist.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl ManArgs {
    /// Writes the pages of this command line.
    ///
    /// # Errors
    ///
    /// Where the directory is not there or cannot be written to.
    pub fn write(&self, command: Command) -> anyhow::Result<()> {
        pages(command, &self.to)
    }
}

/// The page of a command and those of its subcommands, named as git names its own: `backstop-mirror-run.1`.
fn pages(command: Command, to: &Path) -> anyhow::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    // Fills in the full names.
    command.build();
    page(&command, to)
}

fn page(command: &Command, to: &Path) -> anyhow::Result<()> {
    let below = command.get_subcommands();
    for subcommand in below.filter(|subcommand| !subcommand.is_hide_set()) {
        page(subcommand, to)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    let mut text = String::from_utf8(text)?;
    for subcommand in command.get_subcommands() {
        // Where a command's pages have another name than the command.
        let by_command = format!("{name}-{}(1)", subcommand.get_name()).replace('-', "\\-");
        let page = subcommand.get_display_name().unwrap_or_default();
        text = text.replace(&by_command, &format!("{page}(1)").replace('-', "\\-"));
    }
    let path = to.join(format!("{name}.1"));
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// The commands without commands of their own below this one, each by all its names.
#[must_use]
pub fn leaves(command: &Command) -> Vec<(String, Command)> {
    let below: Vec<_> = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help" && !below.is_hide_set())
        .collect();
    if below.is_empty() {
        return vec![(command.get_name().to_owned(), command.clone())];
    }
    let named = |(name, leaf)| (format!("{} {name}", command.get_name()), leaf);
    below.into_iter().flat_map(leaves).map(named).collect()
}

/// What is wrong with the examples that a command line shows: a command without one, or one that the command line itself does not
/// take. What a person fills in may be of any form.
#[must_use]
pub fn bad_examples(command: &Command) -> Vec<String> {
    use clap::error::ErrorKind::{InvalidValue, ValueValidation};
    let mut bad = Vec::new();
    for (name, leaf) in leaves(command) {
        let help = leaf.get_after_help().map(ToString::to_string).unwrap_or_default();
        let start = format!("  {} ", command.get_name());
        let examples: Vec<_> = help.lines().filter(|line| line.starts_with(&start)).collect();
        if !examples.iter().any(|line| line.trim_start().starts_with(&name)) {
            bad.push(format!("{name} --help shows no example of it"));
        }
        for example in examples {
            // Behind three blanks stands what it does, behind a bar or an arrow where its output goes.
            let typed = example.trim_start().split("   ").next().unwrap_or_default();
            let words = typed.split(' ').take_while(|word| !["|", ">"].contains(word));
            let read = command.clone().try_get_matches_from(words);
            if let Err(error) = read
                && !matches!(error.kind(), ValueValidation | InvalidValue)
            {
                bad.push(format!("{name}: {typed}: {error}"));
            }
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let run = Command::new("hand-over").after_help("Example:\n\n  tool mirror hand-over   does it");
        let below = Command::new("mirror")
            .display_name("tool-mirrors")
            .subcommand(run);
        Command::new("tool").subcommand(below)
    }

    #[test]
    fn each_command_has_a_page_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        pages(command(), dir.path()).unwrap();
        for name in ["tool", "tool-mirrors", "tool-mirrors-hand-over"] {
            let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(
                page.contains(".TH") && page.contains(&name.replace('-', "\\-")),
                "{name}: {page}"
            );
        }
        let top = fs::read_to_string(dir.path().join("tool.1")).unwrap();
        assert!(top.contains("tool\\-mirrors(1)"), "{top}");
    }

    #[test]
    fn an_example_is_there_and_is_taken_by_the_command_line() {
        assert_eq!(bad_examples(&command()), [""; 0]);
        let none = command().subcommand(Command::new("other"));
        assert_eq!(bad_examples(&none), ["tool other --help shows no example of it"]);
        let wrong = Command::new("key").after_help("Examples:\n\n  tool key\n  tool key --moon");
        assert_eq!(bad_examples(&command().subcommand(wrong)).len(), 1);
    }
}
