//! What a person types: `backstop setup`, `backstop status`, `backstop restore`, …
//!
//! One file a command. Results go to standard output, everything that went wrong to standard error as sentences that
//! end with the next step. Secrets are typed at a terminal or read from a file descriptor, never arguments (I11).

mod accept;
mod account;
mod adopt;
mod bars;
mod delete_backup;
mod doctor;
mod expiry;
mod export;
mod grants;
mod history;
mod import;
mod mirror;
mod node;
mod outage;
mod paint;
pub mod prompt;
mod receipt;
pub mod restore;
mod rollup;
mod room;
mod scratch;
mod server;
pub mod setup;
mod signer;
mod status;
mod stop;
mod verify;
mod wait;
mod when;

use crate::{node::Ambient, random::SharedRng};
use anyhow::Context as _;
use backstop_manual::{CompletionsArgs, ManArgs};
use backstop_protocol::clock::Clock;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

pub use node::NodeArgs;

/// Encrypted, continuous backup of a Core Lightning node.
#[derive(Parser)]
#[command(name = "backstop", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What begins a day with it, and what scripts may rely on.
const AFTER_HELP: &str = "\
Examples:

  backstop setup --server https://backup.example.org --network bitcoin
  backstop status --network bitcoin
  backstop doctor --network bitcoin
  backstop verify --network bitcoin
  backstop restore --server https://backup.example.org --to /new/lightning-dir --network bitcoin --mnemonic

Exit codes, of every command:

  0  done; of status, doctor, verify and import also: all is well
  1  not done, or not well; standard error, or the report itself, says what it means and what to type
  2  the command line was not understood; nothing was done

Secrets are asked for at the terminal without being shown, or read from a file descriptor (--passphrase-fd, --secret-fd); they are
never arguments. With --json standard output holds one JSON value, whose members are added to and never changed.";

#[derive(Subcommand)]
enum Command {
    Setup(setup::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Verify(verify::Args),
    History(history::Args),
    Export(export::Args),
    Rollup(rollup::Args),
    Import(import::Args),
    Restore(restore::Args),
    Adopt(adopt::Args),
    Accept(accept::Args),
    DeleteBackup(delete_backup::Args),
    // Its pages of the manual lie beside those of the program `backstop-server`.
    #[command(subcommand, display_name = "backstop-servers")]
    Server(server::Command),
    Receipt(receipt::Args),
    Grant(grants::GiveArgs),
    Grants(grants::ListArgs),
    Revoke(grants::RevokeArgs),
    Mirror(mirror::Args),
    #[command(after_help = "Examples:

  backstop completions bash > ~/.local/share/bash-completion/completions/backstop
  backstop completions zsh > ~/.zfunc/_backstop
  backstop completions fish > ~/.config/fish/completions/backstop.fish")]
    Completions(CompletionsArgs),
    #[command(after_help = "Example:

  backstop man --to ~/.local/share/man/man1")]
    Man(ManArgs),
}

/// Where a command was typed.
pub struct Here {
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// The present directory.
    pub cwd: PathBuf,
    /// This program, absolute.
    pub program: PathBuf,
}

impl Here {
    fn find() -> anyhow::Result<Self> {
        Ok(Self {
            home: std::env::var_os("HOME").map(PathBuf::from),
            cwd: std::env::current_dir().context("the present directory cannot be found")?,
            program: std::env::current_exe().context("this program's own path cannot be found")?,
        })
    }
}

/// Reads the command line and does what it says.
#[must_use]
pub fn run(clock: Arc<dyn Clock>, rng: SharedRng) -> ExitCode {
    let Some(command) = Cli::parse().command else {
        // CLN's installer tries a plugin by starting it without arguments, and takes any failure for a broken one.
        let shown = Cli::command().print_help();
        return if shown.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    };
    let done = Here::find().and_then(|here| match command {
        Command::Setup(args) => setup::command(&args, &here, clock, rng).map(|()| ExitCode::SUCCESS),
        Command::Restore(args) => {
            restore::command(&args, &here, &Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Status(args) => status::command(&args, &here, Ambient { clock, rng }),
        Command::Doctor(args) => doctor::command(&args, &here, Ambient { clock, rng }),
        Command::Verify(args) => verify::command(&args, &here, Ambient { clock, rng }),
        Command::History(args) => {
            history::command(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Export(args) => {
            export::command(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Import(args) => import::command(&args, &here),
        Command::Rollup(args) => {
            rollup::command(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Completions(args) => args.print(Cli::command()).map(|()| ExitCode::SUCCESS),
        Command::Man(args) => args.write(Cli::command()).map(|()| ExitCode::SUCCESS),
        Command::Accept(args) => {
            accept::command(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::DeleteBackup(args) => {
            delete_backup::command(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Server(command) => {
            server::command(&command, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Receipt(args) => {
            receipt::command(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Grant(args) => {
            grants::give(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Grants(args) => {
            grants::list(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Revoke(args) => {
            grants::revoke(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
        Command::Mirror(args) => mirror::command(args, &Ambient { clock, rng }).map(|()| ExitCode::SUCCESS),
        Command::Adopt(args) => {
            adopt::command(&args, &here, Ambient { clock, rng }).map(|()| ExitCode::SUCCESS)
        }
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            // Where even standard error is gone, the exit code is left.
            let _ = writeln!(io::stderr(), "backstop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_that_the_command_line_takes() {
        assert_eq!(backstop_manual::bad_examples(&Cli::command()), [""; 0]);
    }
}
