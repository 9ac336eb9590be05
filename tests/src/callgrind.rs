//! A program's work, counted by valgrind: the same on every machine, but for chance in the program itself. It says nothing about
//! waiting, and what a build that is not optimised executes says nothing about one that is.

use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One run of a program, whose work is written down as it ends.
pub struct Callgrind {
    out: PathBuf,
}

impl Callgrind {
    /// A run that is written to a file in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self {
            out: directory.join("callgrind.out"),
        }
    }

    /// The command that runs a program so; its arguments are to follow.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", self.out.display()))
            .arg(program);
        command
    }

    /// Instructions that the whole run executed, once it has ended.
    pub fn instructions(&self) -> Result<u64> {
        let text = self.text()?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(total.context("no totals")?.trim().parse()?)
    }

    /// How often it called a function, by its name in C.
    pub fn calls(&self, function: &str) -> Result<u64> {
        calls(&self.text()?, function)
    }

    fn text(&self) -> Result<String> {
        fs::read_to_string(&self.out).with_context(|| self.out.display().to_string())
    }
}

/// A callee is named in full once, `cfn=(12) sqlite3_step`, and by its number from then on; how often it was called follows.
fn calls(text: &str, function: &str) -> Result<u64> {
    let name = format!(") {function}");
    let mut number = None;
    for line in text.lines() {
        if let Some((_, named)) = line.split_once("fn=").filter(|(_, named)| named.ends_with(&name)) {
            number = named.strip_suffix(function).map(str::trim);
        }
    }
    let callee = format!(
        "cfn={}",
        number.with_context(|| format!("{function} is never called"))?
    );
    let (mut sum, mut of_it) = (0, false);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("calls=").filter(|_| of_it) {
            sum += rest.split(' ').next().context("no count")?.parse::<u64>()?;
        }
        if line.starts_with("cfn=") {
            of_it = line
                .strip_prefix(&callee)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_function_are_summed_over_its_callers() {
        let text = "fn=(1) main\ncfn=(2) step\ncalls=3 0\n0 7\nfn=(3) other\ncfn=(2)\ncalls=4 0\ncfn=(20)\ncalls=5 0\n";
        assert_eq!(calls(text, "step").unwrap(), 7);
        assert!(calls(text, "stop").is_err());
    }
}
