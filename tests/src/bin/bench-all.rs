//! `cargo bench-all`: what Backstop costs, beside the bare parts, in one run. Prints a table and writes `bench.json`
//! into the target directory.
//!
//! `--quick` measures just enough to see that everything runs; `--no-build` takes the programs as they are;
//! `--json FILE` writes there instead.
#![expect(clippy::print_stdout, reason = "a program that a person looks at")]

use anyhow::{Context, Result, bail, ensure};
use backstop_tests::{
    bench::{self, Effort, bare_server},
    binaries::cargo,
};
use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

struct Arguments {
    effort: Effort,
    build: bool,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            println!("bench-all: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    if env::args().nth(1).as_deref() == Some(bare_server::ARGUMENT) {
        bare_server::serve()?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = parse(env::args().skip(1))?;
    if arguments.build {
        return build_and_go_on();
    }
    // `target/<profile>`, which is on a disk where a directory for temporary files may not be.
    let programs = env::current_exe()?;
    let programs = programs.parent().context("this program lies nowhere")?;
    let scratch = tempfile::tempdir_in(programs)?;
    let report = bench::measure(arguments.effort, scratch.path(), |what| {
        println!("bench-all: {what}");
    })?;
    println!("\n{report}");
    let json = match arguments.json {
        Some(json) => json,
        None => programs
            .parent()
            .context("no target directory")?
            .join("bench.json"),
    };
    std::fs::write(&json, serde_json::to_vec_pretty(&report)?)?;
    println!("bench-all: the same in {}", json.display());
    Ok(ExitCode::SUCCESS)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut parsed = Arguments {
        effort: Effort::FULL,
        build: true,
        json: None,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => parsed.effort = Effort::QUICK,
            "--no-build" => parsed.build = false,
            "--json" => parsed.json = Some(arguments.next().context("--json needs a file")?.into()),
            other => bail!("{other} is not known; known are --quick, --no-build and --json FILE"),
        }
    }
    Ok(parsed)
}

/// Builds the programs as a user does, with no features but their own, and measures in a process that does not know
/// of cargo: nothing is built again meanwhile.
fn build_and_go_on() -> Result<ExitCode> {
    println!("bench-all: building");
    let mut build = cargo();
    build.args(["build", "--quiet", "-p", "backstop", "-p", "backstop-server"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    ensure!(build.status()?.success(), "the programs do not build");
    let status = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .arg("--no-build")
        .env_remove("CARGO")
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
