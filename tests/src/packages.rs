//! What Debian's packages hold besides the programs: pages of the manual and completions for shells, which the programs themselves
//! print; and the packages, made of all that.

use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// The root of the project.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The packages, which are named as their programs.
pub const PACKAGES: &[&str] = &["backstop", "backstop-server"];
/// Shells whose completions they bring.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// Has the program of this name in `release` print its manual and completions, beside it in `manual/NAME`. `Cargo.toml` of the
/// package says where they go.
pub fn write_manual(release: &Path, name: &str) -> Result<()> {
    let (program, to) = (release.join(name), release.join("manual").join(name));
    // Pages of a command that is no more would go into the package too.
    if to.exists() {
        fs::remove_dir_all(&to)?;
    }
    fs::create_dir_all(&to)?;
    run(Command::new(&program).arg("man").arg("--to").arg(&to))?;
    for shell in SHELLS {
        let printed = run(Command::new(&program).args(["completions", shell]))?;
        fs::write(to.join(shell), printed.stdout)?;
    }
    Ok(())
}

/// Makes the package of this name, of the program that lies in `release` of the directory `target`, with this cargo-deb.
pub fn make(cargo_deb: &Path, options: &[&str], target: &Path, name: &str) -> Result<()> {
    let release = target.join("release");
    write_manual(&release, name)?;
    for entry in fs::read_dir(release.join("manual").join(name))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "1") {
            run(Command::new("gzip").arg("-9n").arg(&path))?;
        }
    }
    let mut cargo_deb = Command::new(cargo_deb);
    cargo_deb
        .current_dir(ROOT)
        .args(["--package", name, "--no-build", "--offline", "--locked"])
        .args(options)
        .env("CARGO_TARGET_DIR", target);
    run(&mut cargo_deb)?;
    Ok(())
}

/// Runs a command, which must succeed.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
