//! The program: everything is in the library.

use std::{io::Write as _, process::ExitCode, thread};

fn main() -> ExitCode {
    // The other half of the machine is the database's: threads that wait for a core wake each other for nothing.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(backstop_server::cli::run(std::env::args_os().collect())),
        Err(error) => {
            let mut errors = std::io::stderr();
            let _ = writeln!(
                errors,
                "backstop-server cannot start: {error}; nothing was read or written"
            );
            ExitCode::FAILURE
        }
    }
}
