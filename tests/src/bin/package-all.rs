//! `cargo package-all`: both Debian packages, of the programs as they are built for release.
#![expect(clippy::print_stdout, reason = "a program that a person looks at")]

use anyhow::{Context as _, Result, ensure};
use backstop_tests::{binaries, packages};
use std::path::Path;

fn main() -> Result<()> {
    let mut build = binaries::cargo();
    build.args(["build", "--release", "--locked"]);
    for name in packages::PACKAGES {
        build.args(["--package", name]);
    }
    ensure!(build.status()?.success(), "the programs do not build");
    // This program was built for release too.
    let program = std::env::current_exe()?;
    let release = program.parent().context("a program lies in a directory")?;
    ensure!(
        release.ends_with("release"),
        "type: cargo package-all, which builds for release"
    );
    let target = release.parent().context("target")?;
    for name in packages::PACKAGES {
        packages::make(Path::new("cargo-deb"), &[], target, name)
            .context("is cargo-deb there? cargo install --locked cargo-deb")?;
    }
    println!("both packages are in {}", target.join("debian").display());
    Ok(())
}
