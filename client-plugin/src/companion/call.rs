//! One command of lightning-cli, done by the command line.

use crate::cln::NodeDir;
use serde_json::Value;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
};

/// A command for `lightning-cli`.
pub(super) struct Command {
    /// Its name there.
    pub(super) method: &'static str,
    /// The subcommand of `backstop` that does it.
    subcommand: &'static str,
    /// What it does, for `lightning-cli help`.
    pub(super) about: &'static str,
}

/// All of them. They take no arguments: what needs one is typed at the command line.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        method: "backstop-status",
        subcommand: "status",
        about: "Show whether this node is protected, since when, and what to do where it is not",
    },
    Command {
        method: "backstop-history",
        subcommand: "history",
        about: "List the points in time that backstop restore --at reaches",
    },
    Command {
        method: "backstop-verify",
        subcommand: "verify",
        about: "Restore the whole backup to nowhere and check it, beside the running node",
    },
    Command {
        method: "backstop-rollup",
        subcommand: "rollup",
        about: "Have the log rolled up into a new snapshot, in the background",
    },
];

/// Why a command gave nothing, for a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed(pub(super) String);

impl Failed {
    /// JSON-RPC's code for a method that is not there.
    pub(super) const UNKNOWN: i32 = -32601;
    /// Any other failure.
    pub(super) const NOT_DONE: i32 = -1;
}

/// The command line, for one node.
pub(super) struct Backstop {
    program: PathBuf,
    node: Vec<OsString>,
}

impl Backstop {
    /// The program `backstop` beside the companion, or the companion itself, which is the same program.
    pub(super) fn new(companion: &Path, files: &NodeDir, rpc: &Path) -> Self {
        let beside = companion.with_file_name("backstop");
        let node = [
            OsString::from("--lightning-dir"),
            files.base().into(),
            "--network".into(),
            files.network().as_str().into(),
            "--rpc-file".into(),
            rpc.into(),
        ];
        Self {
            program: if beside.is_file() {
                beside
            } else {
                companion.to_owned()
            },
            node: node.into(),
        }
    }

    /// Runs a command in a process of its own.
    pub(super) async fn call(&self, command: &Command) -> Result<Value, Failed> {
        let mut process = Process::new(&self.program);
        process
            .arg(command.subcommand)
            .arg("--json")
            .args(&self.node)
            .env_remove("LIGHTNINGD_PLUGIN")
            .stdin(Stdio::null());
        let done = tokio::task::spawn_blocking(move || process.output()).await;
        match done {
            Ok(Ok(output)) => answer(&output.stdout, &output.stderr),
            Ok(Err(error)) => Err(Failed(format!(
                "{} cannot be run: {error}",
                self.program.display()
            ))),
            Err(_) => Err(Failed("it was broken off".to_owned())),
        }
    }
}

/// A report is an answer whatever the exit code says: that a node is not protected is what was asked for.
fn answer(stdout: &[u8], stderr: &[u8]) -> Result<Value, Failed> {
    serde_json::from_slice(stdout).map_err(|_| {
        Failed(
            String::from_utf8_lossy(stderr)
                .trim()
                .trim_start_matches("backstop: ")
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_the_answer_and_without_one_the_sentence_is() {
        assert_eq!(
            answer(b"{\"protected\": false}\n", b"x"),
            Ok(serde_json::json!({ "protected": false }))
        );
        assert_eq!(
            answer(b"", b"backstop: no server answers\n"),
            Err(Failed("no server answers".to_owned()))
        );
    }
}
