//! The `backstop` binary: the plugin when lightningd starts it, the companion when lightningd starts it under that name, a
//! command line otherwise.

use backstop::{cli, companion, plugin, random::SharedRng};
use backstop_protocol::clock::SystemClock;
use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    let (clock, rng) = (Arc::new(SystemClock), SharedRng::system());
    // lightningd passes no subcommand; in developer mode it adds an option of its own.
    let started_by_lightningd = std::env::var_os("LIGHTNINGD_PLUGIN").is_some()
        && std::env::args().skip(1).all(|argument| argument == "--developer");
    match (std::env::current_dir(), std::env::current_exe()) {
        (Ok(network_dir), Ok(program)) if started_by_lightningd && companion::is_companion(&program) => {
            companion::run(&network_dir, &program)
        }
        (Ok(network_dir), _) if started_by_lightningd => plugin::run(network_dir, clock, rng),
        _ => cli::run(clock, rng),
    }
}
