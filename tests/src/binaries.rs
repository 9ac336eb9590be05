//! The programs under test, as built beside the program that runs now.

use anyhow::{Context, Result, ensure};
use std::{path::PathBuf, process::Command, sync::OnceLock};

/// The path of a program of this workspace, built with the profile of the running one. Under cargo it is brought up
/// to date first; elsewhere it must be there.
pub fn binary(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let directory = directory()?;
    BUILT
        .get_or_init(|| {
            if std::env::var_os("CARGO").is_some() {
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

fn build() -> Result<()> {
    let cargo = std::env::var_os("CARGO").context("not under cargo")?;
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
    ]);
    command.args([
        "--package",
        "backstop",
        "--package",
        "backstop-server",
        "--package",
        "backstop-tests",
        "--bins",
    ]);
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
