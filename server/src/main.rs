//! The program: everything is in the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    backstop_server::cli::run(std::env::args_os().collect()).await
}
