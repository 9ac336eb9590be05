//! The program: reads the command line, runs, and says in one sentence what went wrong.

use backstop_server::cli::{self, Cli};
use clap::Parser as _;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody has to read it.
            let _ = writeln!(io::stderr(), "backstop-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}
