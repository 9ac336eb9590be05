//! What a person reads before and while a command runs, as the shells, `man` and a terminal themselves take it.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    packages::{PACKAGES, run, write_manual},
    scene::Scene,
    wallet::Journal,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The manual of both programs, as it goes into the packages.
struct Manual {
    dir: tempfile::TempDir,
}

impl Manual {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for name in PACKAGES {
            std::os::unix::fs::symlink(binary(name)?, dir.path().join(name))?;
            write_manual(dir.path(), name)?;
        }
        Ok(Self { dir })
    }

    fn of(&self, name: &str) -> PathBuf {
        self.dir.path().join("manual").join(name)
    }
}

fn said(command: &mut Command) -> Result<String> {
    let output = run(command.stdin(Stdio::null()))?;
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(complaints.trim().is_empty(), "{command:?}: {complaints}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn bash_completes_what_zsh_and_fish_complete_too() -> Result<()> {
    let manual = Manual::new()?;
    for (name, begun, whole) in [
        ("backstop", "ver", "verify"),
        ("backstop-server", "check", "check-config"),
    ] {
        let files = manual.of(name);
        let file = |shell: &str| files.join(shell).display().to_string();
        let (bash, zsh, fish) = (file("bash"), file("zsh"), file("fish"));

        // As readline calls it.
        let script = format!(
            "source {bash}; set -- $(complete -p {name}); while [ $1 != -F ]; do shift; done; \
             COMP_WORDS=({name} {begun}); COMP_CWORD=1; $2 {name} {begun} {name}; echo ${{COMPREPLY[@]}}"
        );
        let completed = said(Command::new("bash").args(["--norc", "-c", &script]))?;
        assert_eq!(completed.trim(), whole, "bash, {name}");

        let completed = said(
            Command::new("fish")
                .env("HOME", manual.dir.path())
                .args(["--no-config", "-c"])
                .arg(format!("source {fish}; complete --do-complete '{name} {begun}'")),
        )?;
        let first = completed.split('\t').next();
        assert_eq!(first.map(str::trim), Some(whole), "fish, {name}");

        // Its own loader takes the file, and the function is there; what it offers needs a terminal's editor.
        let script = format!(
            "autoload -Uz compinit; compinit -u -D; source {zsh}; whence -w _{name}; print ${{_comps[{name}]}}; functions _{name}_commands"
        );
        let loaded = said(Command::new("zsh").args(["-f", "-c", &script]))?;
        ensure!(loaded.contains(&format!("_{name}: function")), "{loaded}");
        ensure!(loaded.contains(&format!("'{whole}:")), "{loaded}");
    }
    Ok(())
}

#[test]
fn no_page_of_one_program_takes_the_place_of_the_others() -> Result<()> {
    let manual = Manual::new()?;
    let pages = |name: &str| -> Result<BTreeSet<std::ffi::OsString>> {
        let entries = fs::read_dir(manual.of(name))?;
        let names = entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<Result<BTreeSet<_>>>()?;
        let is_page = |name: &std::ffi::OsString| Path::new(name).extension().is_some_and(|end| end == "1");
        Ok(names.into_iter().filter(is_page).collect())
    };
    let (client, server) = (pages(PACKAGES[0])?, pages(PACKAGES[1])?);
    let both: Vec<_> = client.intersection(&server).collect();
    ensure!(
        both.is_empty() && client.len() > 20 && server.len() > 10,
        "{both:?}"
    );
    Ok(())
}

#[test]
fn man_shows_every_page_without_a_complaint_and_with_examples() -> Result<()> {
    let manual = Manual::new()?;
    let mut pages = 0;
    for name in PACKAGES {
        for entry in fs::read_dir(manual.of(name))? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != "1") {
                continue;
            }
            let shown = said(
                Command::new("man")
                    .env("MANWIDTH", "100")
                    .env("LC_ALL", "C.UTF-8")
                    .args(["--warnings", "--local-file"])
                    .arg(&path),
            )?;
            ensure!(shown.contains("SYNOPSIS"), "{}: {shown}", path.display());
            let parent = shown.contains("SUBCOMMANDS");
            ensure!(parent || shown.contains("Example"), "{}: {shown}", path.display());
            pages += 1;
        }
    }
    ensure!(pages > 40, "only {pages} pages");
    let page = fs::read_to_string(manual.of("backstop").join("backstop.1"))?;
    ensure!(page.contains("Exit codes"), "{page}");
    Ok(())
}

/// A command of ours on a terminal of its own; what that shows.
fn on_a_terminal(arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let program = binary("backstop")?;
    let typed = [&[program.to_str().context("a path")?], arguments]
        .concat()
        .join(" ");
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--command", &typed, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("LIGHTNINGD_PLUGIN")
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    let output = script.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn of_node<'a>(command: &'a str, directory: &'a Path, network: &'a str) -> Result<[&'a str; 5]> {
    let directory = directory.to_str().context("a path")?;
    Ok([command, "--lightning-dir", directory, "--network", network])
}

#[test]
fn colour_is_for_terminals_whose_owner_did_not_ask_for_none() -> Result<()> {
    let mut scene = Scene::new(400, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let network = scene.node.network();
    let status = of_node("status", scene.node.lightning_dir(), network.as_str())?;
    let shown = on_a_terminal(&status, &[])?;
    ensure!(shown.starts_with("\u{1b}[1;32mPROTECTED\u{1b}[0m"), "{shown:?}");
    for quiet in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let shown = on_a_terminal(&status, &[quiet])?;
        ensure!(shown.starts_with("PROTECTED"), "{shown:?}");
    }
    for command in ["status", "doctor", "verify", "history", "grants"] {
        let spoken = scene.node.command(&[command])?;
        ensure!(
            !spoken.stdout.contains('\u{1b}') && !spoken.stderr.contains('\u{1b}'),
            "{spoken:?}"
        );
    }
    Ok(())
}

#[test]
fn a_terminal_shows_a_bar_with_rate_and_time_left_and_a_pipe_the_result_alone() -> Result<()> {
    let mut scene = Scene::new(402, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    for _ in 0..8 {
        lightningd.pay()?;
    }
    lightningd.stop(0)?;
    let network = scene.node.network();
    let verify = of_node("verify", scene.node.lightning_dir(), network.as_str())?;
    let shown = on_a_terminal(&verify, &[])?;
    ensure!(
        shown.contains("records") && shown.contains("/s, ") && shown.contains(" left"),
        "{shown:?}"
    );
    ensure!(shown.contains("RESTORABLE"), "{shown:?}");
    let spoken = scene.node.command(&["verify"])?.success()?;
    ensure!(spoken.stderr.is_empty(), "{spoken:?}");
    Ok(())
}
