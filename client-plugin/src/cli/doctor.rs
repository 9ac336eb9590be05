//! `backstop doctor`: everything that leaves a node unprotected without a word, with what mends it.
//!
//! What `status` finds comes first; then what neither plugin nor server can see: how lightningd is started and stopped, who
//! else answers its hook, where its files lie and who may read them, and whether its owner could restore at all.

mod backup;
mod files;
mod finding;
mod hook;
mod secret;
mod unit;

use super::{
    Here, NodeArgs,
    paint::{Paint, Tone},
    status::Status,
    wait::wait,
};
use crate::{
    cln::{
        NodeDir, Rpc,
        pidfile::{self, Holder},
    },
    node::Ambient,
};
use finding::{Finding, Level};
use serde::Serialize;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Something is wrong.
const ILL: u8 = 1;

/// Check everything that could leave this node unprotected without anybody noticing, and say what mends it.
///
/// Run it as the user that runs lightningd, best while lightningd runs.
///
/// Exit code: 0 nothing is wrong, 1 something is.
#[derive(clap::Args)]
#[command(after_help = "Examples:

  backstop doctor --network bitcoin
  backstop doctor --network bitcoin --json")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints; members are added, never changed.
#[derive(Serialize)]
struct Report {
    /// Whether nothing is wrong; there may be warnings.
    healthy: bool,
    findings: Vec<Finding>,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<ExitCode> {
    let files = args.node.find(here)?;
    let now = ambient.clock.now();
    let status = wait(async { Ok(Status::collect(&files, ambient).await) })?;
    let mut findings = backup::findings(&status, now);
    findings.extend(examine(&files));
    let report = Report {
        healthy: findings.iter().all(|finding| finding.level != Level::Wrong),
        findings,
    };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        report.print(&mut out, Paint::of_stdout())?;
    }
    Ok(if report.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ILL)
    })
}

/// What is seen on this machine.
fn examine(files: &NodeDir) -> Vec<Finding> {
    let holder = pidfile::holder(files.pidfile()).unwrap_or(Holder::Nobody);
    let mut findings = vec![files::modes(files), files::room(files), secret::secret(files)];
    match holder {
        Holder::Nobody => {
            findings.push(hook::configured(files));
            findings.push(Finding::skipped(
                "systemd",
                "lightningd does not run: how it is stopped is looked at while it runs",
            ));
        }
        Holder::Process(pid) => {
            findings.extend(hook::running(&Rpc::new(files.rpc())));
            findings.push(unit::unit(pid));
        }
        Holder::Unseen => {
            findings.extend(hook::running(&Rpc::new(files.rpc())));
            findings.push(Finding::skipped(
                "systemd",
                "lightningd runs in another container: how it is stopped was not looked at",
            ));
        }
    }
    findings
}

impl Report {
    fn print(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        for finding in &self.findings {
            let level = format!("{:<7}", finding.level);
            let level = match finding.level {
                Level::Ok => paint.say(Tone::Good, &level),
                Level::Skipped => level,
                Level::Warning => paint.say(Tone::Careful, &level),
                Level::Wrong => paint.say(Tone::Bad, &level),
            };
            writeln!(out, "{level} {:<10} {}", finding.check, finding.says)?;
        }
        let count = |level| {
            self.findings
                .iter()
                .filter(|finding| finding.level == level)
                .count()
        };
        writeln!(
            out,
            "\n{}: {} wrong, {} to think about, {} not looked at",
            if self.healthy {
                paint.say(Tone::Good, "HEALTHY")
            } else {
                paint.say(Tone::Bad, "NOT HEALTHY")
            },
            count(Level::Wrong),
            count(Level::Warning),
            count(Level::Skipped)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_thing_makes_a_node_ill_and_a_warning_does_not() {
        let said = |level| {
            let findings = vec![Finding {
                check: "x",
                level,
                says: "a sentence.".to_owned(),
            }];
            let healthy = level != Level::Wrong;
            let mut out = Vec::new();
            Report { healthy, findings }.print(&mut out, Paint::NONE).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            said(Level::Warning),
            "warning x          a sentence.\n\nHEALTHY: 0 wrong, 1 to think about, 0 not looked at\n"
        );
        assert!(said(Level::Wrong).contains("NOT HEALTHY: 1 wrong"));
    }
}
