//! The command line.

mod copy;
mod file;
mod health;
mod invite;
mod layers;
mod log;
mod node;
mod office;
mod place;
mod reference;
mod restored;
mod scrub;
mod serve;
mod settings;
mod units;

use crate::{Server, server::check_exposure};
use backstop_manual::{CompletionsArgs, ManArgs};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use getrandom::{SysRng, rand_core::UnwrapErr};
use layers::{LayerError, Layered};
use log::Log;
use settings::Settings;
use std::{
    ffi::OsString,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

/// Keeps encrypted backups of Core Lightning nodes, and cannot read them.
///
/// A setting is taken from its flag, else from its environment variable (`--roll-up-bytes` is `BACKSTOP_SERVER_ROLL_UP_BYTES`),
/// else from the configuration file, else it has its default.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// The configuration file [default: /etc/backstop-server/config.toml, if it exists].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// What begins a day with it, and what scripts may rely on.
const AFTER_HELP: &str = "\
Examples:

  backstop-server serve --listen 127.0.0.1:8750 --data /var/lib/backstop-server
  backstop-server check-config --config /etc/backstop-server/config.toml
  backstop-server node list
  backstop-server invite create --note \"a friend\"
  backstop-server scrub

Exit codes: 0 done; 1 not done, and standard error says why; 2 the command line was not understood; 3 of scrub and copy: something
that is stored is lost or damaged.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until it is told to stop (SIGTERM or Ctrl-C). SIGHUP makes it read configuration and certificate
    /// again.
    #[command(after_help = "Examples:

  backstop-server serve --listen 127.0.0.1:8750 --data /var/lib/backstop-server
  backstop-server serve --listen 0.0.0.0:443 --tls-cert /etc/ssl/backstop.pem --tls-key /etc/ssl/backstop.key
  backstop-server serve --registration invite --quota 10GiB --metrics 127.0.0.1:8751")]
    Serve(Box<Settings>),
    /// Say whether the configuration is right, or what is wrong with it; nothing is started.
    #[command(after_help = "Example:

  backstop-server check-config --config /etc/backstop-server/config.toml")]
    CheckConfig(Box<Settings>),
    /// Print a configuration file with the defaults, every setting explained.
    #[command(after_help = "Example:

  backstop-server default-config > config.toml")]
    DefaultConfig(DefaultConfig),
    /// Ask the server that runs on this machine whether it is ready. Exits with 0 if it is.
    #[command(after_help = "Example:

  backstop-server health --metrics 127.0.0.1:8751")]
    Health(health::Health),
    /// Bring the database up to date, or make it where there is none, and stop. `serve` does that too, unless it is told not to.
    /// A server of an older version must not run over a SQLite file meanwhile, and does not start again afterwards.
    #[command(after_help = "Example:

  backstop-server migrate --data /var/lib/backstop-server")]
    Migrate(Box<Settings>),
    /// Read everything that is stored, records and packs, and say whether it is as it was acknowledged. The server may go on
    /// running. A pack that is lost or damaged is marked, so that the node sends its content again with its next snapshot.
    /// Exits with 0 if nothing is wrong, with 3 if something is, and with 1 if that could not be found out.
    #[command(after_help = "Example:

  backstop-server scrub --data /var/lib/backstop-server")]
    Scrub(Box<scrub::Scrub>),
    /// Copy everything to another database, and packs to another place, while the server goes on: SQLite to PostgreSQL, a
    /// directory to a bucket, or back. Run again it goes on where it was ended; with --finish it hands over. Exits with 0 if
    /// all is well, with 3 if something of the old store is lost or damaged, and with 1 if it could not go on.
    #[command(after_help = "Examples:

  backstop-server copy --data /var/lib/backstop-server --to-database postgres://backstop@db.example.org/backstop
  backstop-server copy --data /var/lib/backstop-server --to-database postgres://backstop@db.example.org/backstop --finish")]
    Copy(Box<copy::Copy>),
    /// Say that this server's data were restored from a copy of an earlier time, before it serves again: every node is held
    /// until its owner adopts it. Without this, a node could go on upon a state that is behind what it acted on.
    #[command(after_help = "Example:

  backstop-server restored --data /var/lib/backstop-server")]
    Restored(restored::Restored),
    /// What concerns one node, or lists all; beside a server that runs.
    Node {
        #[command(subcommand)]
        command: node::NodeCommand,
    },
    /// Invitations, with which nodes come to a server that is not open to all.
    Invite {
        #[command(subcommand)]
        command: invite::InviteCommand,
    },
    #[command(after_help = "Example:

  backstop-server completions bash > /etc/bash_completion.d/backstop-server")]
    Completions(CompletionsArgs),
    #[command(after_help = "Example:

  backstop-server man --to /usr/local/share/man/man1")]
    Man(ManArgs),
}

#[derive(Debug, Args)]
struct DefaultConfig {
    /// As the page of the documentation instead.
    #[arg(long)]
    markdown: bool,
}

/// Does what the command line asks for, with the program's name as the first argument, and says on standard error what
/// went wrong.
pub async fn run(arguments: Vec<OsString>) -> ExitCode {
    let checks = arguments.iter().any(|argument| argument == "check-config");
    let done = match layers::read(&arguments) {
        Ok(layered) => obey(arguments, layered).await,
        Err(LayerError::Line(error)) => {
            // Nobody has to read it.
            let _ = error.print();
            return match (error.use_stderr(), checks) {
                (false, _) => ExitCode::SUCCESS,
                (true, true) => ExitCode::FAILURE,
                (true, false) => ExitCode::from(2),
            };
        }
        Err(LayerError::File(error)) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody has to read it.
            let _ = writeln!(io::stderr(), "backstop-server: {error:#}");
            if error.is::<scrub::Found>() || error.is::<copy::Found>() {
                ExitCode::from(3)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn obey(arguments: Vec<OsString>, layered: Layered) -> anyhow::Result<()> {
    let Layered { cli, file, values } = layered;
    match cli.command {
        Command::Serve(settings) => {
            let log = Log::start(&settings.log);
            serve::run(&settings, serve::Reload::new(arguments, values, log)).await
        }
        Command::CheckConfig(settings) => {
            check_exposure(&settings.config()?)?;
            print(&match file {
                Some(file) => format!("ok: {}\n", file.display()),
                None => "ok: no file is read\n".to_owned(),
            });
            Ok(())
        }
        Command::DefaultConfig(DefaultConfig { markdown }) => {
            print(&if markdown {
                reference::reference()
            } else {
                reference::default_file()
            });
            Ok(())
        }
        Command::Health(health) => {
            print(&health::run(&health).await?);
            Ok(())
        }
        Command::Migrate(settings) => {
            let _log = Log::start(&settings.log);
            let data = Server::migrate(settings.config()?, &mut UnwrapErr(SysRng)).await?;
            print(&format!("ok: the database of {} is up to date\n", data.display()));
            Ok(())
        }
        Command::Scrub(command) => {
            let _log = Log::start(&std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()));
            scrub::run(*command).await
        }
        Command::Copy(command) => {
            let _log = Log::start(&std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()));
            copy::run(*command).await
        }
        Command::Restored(restored) => {
            print(&restored::run(restored).await?);
            Ok(())
        }
        Command::Node { command } => {
            let _log = Log::start(&std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()));
            node::run(command).await
        }
        Command::Invite { command } => {
            let _log = Log::start(&std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()));
            invite::run(command).await
        }
        Command::Completions(args) => args.print(Cli::command()),
        Command::Man(args) => args.write(Cli::command()),
    }
}

fn print(text: &str) {
    let mut stdout = io::stdout();
    // Nobody has to read it.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_shows_examples_that_the_command_line_takes() {
        Cli::command().debug_assert();
        assert_eq!(backstop_manual::bad_examples(&Cli::command()), [""; 0]);
    }
}
