//! The program: everything is in the library.

use std::process::ExitCode;

#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    backstop_server::cli::run(std::env::args_os().collect()).await
}
