//! The programs under test, as built beside the program that runs now.

use anyhow::{Context, Result, ensure};
use std::{path::PathBuf, process::Command, sync::OnceLock};

/// Set for tests by whoever has built everything just now, so that not each of them asks cargo again.
pub const BUILT: &str = "BACKSTOP_BUILT";

/// The path of a program of this workspace, built with the profile of the running one. Under cargo it is brought up
/// to date first; elsewhere it must be there.
pub fn binary(name: &str) -> Result<PathBuf> {
    static UP_TO_DATE: OnceLock<Result<(), String>> = OnceLock::new();
    let directory = directory()?;
    UP_TO_DATE
        .get_or_init(|| {
            if std::env::var_os("CARGO").is_some() && std::env::var_os(BUILT).is_none() {
                build().map_err(|e| format!("{e:#}"))
            } else {
                Ok(())
            }
        })
        .clone()
        .map_err(anyhow::Error::msg)?;
    let path = directory.join(name);
    ensure!(
        path.is_file(),
        "there is no {}: build it with `cargo build --workspace --bins`",
        path.display()
    );
    Ok(path)
}

/// `target/debug` or `target/release`: tests themselves run from `deps` in it.
fn directory() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let parent = exe.parent().context("no directory")?;
    Ok(if parent.ends_with("deps") {
        parent.parent().context("no directory")?
    } else {
        parent
    }
    .to_owned())
}

/// `cargo`, at the root of the workspace. What cargo says of this package to a program that it runs is left out: build
/// scripts that look at such variables would run again, and half of the dependencies with them.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        cargo.env_remove(name);
    }
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo
}

fn build() -> Result<()> {
    let mut command = cargo();
    command.args([
        "build",
        "--quiet",
        "--package",
        "backstop",
        "--package",
        "backstop-server",
    ]);
    command.args([
        "--package",
        "backstop-tests",
        "--bin",
        "backstop",
        "--bin",
        "backstop-server",
    ]);
    command.args(["--bin", "stand-in", "--bin", "yes-plugin", "--bin", "wrong-clock"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "the programs under test do not build: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
