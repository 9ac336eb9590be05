//! What shells and `man` read about the command line, made of the command line itself.

use super::Cli;
use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Print the completions for a shell.
#[derive(clap::Args)]
#[command(after_help = "Example:

  backstop completions bash > ~/.local/share/bash-completion/completions/backstop")]
pub(super) struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell.
    shell: Shell,
}

/// Write the manual's pages, one for each command, into a directory.
#[derive(clap::Args)]
#[command(after_help = "Example:

  backstop man --to ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// The directory; it must exist.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Prints completions.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "backstop", &mut text);
    Ok(io::stdout().write_all(&text)?)
}

/// Writes the manual.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    pages(Cli::command(), &args.to)
}

/// The page of a command and those of its subcommands, named as git names its own: `backstop-mirror-run.1`.
fn pages(command: clap::Command, to: &Path) -> anyhow::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    // Fills in the full names.
    command.build();
    page(&command, to)
}

fn page(command: &clap::Command, to: &Path) -> anyhow::Result<()> {
    for subcommand in command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        page(subcommand, to)?;
    }
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    let path = to.join(format!("{name}.1"));
    fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        pages(Cli::command(), dir.path()).unwrap();
        for name in ["backstop", "backstop-restore", "backstop-mirror-hand-over"] {
            let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(
                page.contains(".TH") && page.contains(&name.replace('-', "\\-")),
                "{name}: {page}"
            );
        }
        let written = fs::read_dir(dir.path()).unwrap().count();
        assert!(written >= Cli::command().get_subcommands().count());
    }

    #[test]
    fn completions_name_every_command() {
        let mut text = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Cli::command(), "backstop", &mut text);
        let text = String::from_utf8(text).unwrap();
        for subcommand in Cli::command().get_subcommands() {
            assert!(text.contains(subcommand.get_name()), "{}", subcommand.get_name());
        }
    }
}
