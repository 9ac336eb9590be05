//! `cargo bench-all`: what Backstop costs, beside the bare parts, in one run. Prints a table and writes `bench.json`
//! into the target directory.
//!
//! `--only NAMES` measures some parts alone, as `--only hook,server`; `--batches N` lets so many batches through the hook instead
//! of all; `--quick` measures just enough to see that everything runs; `--no-build` takes the programs as they are; `--json
//! FILE` writes there instead.
#![expect(clippy::print_stdout, reason = "a program that a person looks at")]

use anyhow::{Context, Result, bail, ensure};
use backstop_tests::{
    bench::{self, Effort, bare_server, group::Group},
    binaries::cargo,
    shim::{Count, Shim},
};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

struct Arguments {
    effort: Effort,
    groups: Vec<Group>,
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
        bare_server::serve(env::args_os().nth(2).as_ref().map(Path::new))?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = parse(env::args().skip(1))?;
    let Some(shim) = Shim::inherited()? else {
        if arguments.build {
            build()?;
        }
        return go_on();
    };
    // `target/<profile>`, which is on a disk where a directory for temporary files may not be.
    let programs = env::current_exe()?;
    let programs = programs.parent().context("this program lies nowhere")?;
    let scratch = tempfile::tempdir_in(programs)?;
    let progress = |what: &str| println!("bench-all: {what}");
    let report = bench::measure(
        arguments.effort,
        &arguments.groups,
        scratch.path(),
        &shim,
        progress,
    )?;
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
        groups: Group::NAMES.map(|(_, group)| group).to_vec(),
        build: true,
        json: None,
    };
    let mut batches = None;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--quick" => parsed.effort = Effort::QUICK,
            "--only" => parsed.groups = Group::parse(&value()?)?,
            "--batches" => batches = Some(value()?.parse().context("--batches needs a number")?),
            "--no-build" => parsed.build = false,
            "--json" => parsed.json = Some(value()?.into()),
            other => bail!(
                "{other} is not known; known are --only NAMES, --batches N, --quick, --no-build and --json FILE"
            ),
        }
    }
    parsed.effort.batches = batches.or(parsed.effort.batches);
    Ok(parsed)
}

/// Builds the programs as a user does, with no features but their own.
fn build() -> Result<()> {
    println!("bench-all: building");
    let mut build = cargo();
    build.args(["build", "--quiet", "-p", "backstop", "-p", "backstop-server"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    ensure!(build.status()?.success(), "the programs do not build");
    Ok(())
}

/// Measures in a process that runs under the shim and does not know of cargo: nothing is built again meanwhile.
fn go_on() -> Result<ExitCode> {
    let shim = Shim::compile(Count::Flushes)?;
    let status = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .envs(shim.variables())
        .env_remove("CARGO")
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
