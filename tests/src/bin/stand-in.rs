//! The process that a plugin has as its parent: the part of lightningd that must be a process of its own.
//!
//! It starts the plugin on its own stdin and stdout, holds the lock of lightningd's pidfile, and lives until it is
//! killed or its control socket ends. Everything else of lightningd happens in the test, at the other end of the
//! streams.
//!
//! `stand-in STDERR_FILE PLUGIN [ARGUMENT…]`, where stderr is the control socket: it writes `started PID` and later
//! `exited STATUS`; it reads `pidfile PATH` and answers `locked` or `held`.

use anyhow::{Context, Result};
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Command, exit},
};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let stderr = File::options()
        .append(true)
        .create(true)
        .open(arguments.next().context("no file for stderr")?)?;
    let plugin = arguments.next().context("no plugin")?;
    let mut control = UnixStream::from(std::io::stderr().as_fd().try_clone_to_owned()?);
    let mut child = Command::new(plugin)
        .args(arguments)
        .stderr(stderr)
        .spawn()
        .context("the plugin does not start")?;
    // The plugin alone holds its streams now: the end of one is the end of the other.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    say(&control, &format!("started {}", child.id()))?;

    let (answers, exits) = (control.try_clone()?, control.try_clone()?);
    std::thread::spawn(move || {
        let status = child.wait().map_or(-1, |status| {
            status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
        });
        // Without a listener there is nobody who wants to know.
        let _ = say(&exits, &format!("exited {status}"));
    });

    let mut pidfile = None;
    for line in BufReader::new(&mut control).lines() {
        if let Some(path) = line?.strip_prefix("pidfile ") {
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            let locked = lock(&file);
            if locked {
                file.set_len(0)?;
                writeln!(&file, "{}", std::process::id())?;
            }
            pidfile = Some(file);
            say(&answers, if locked { "locked" } else { "held" })?;
        }
    }
    drop(pidfile);
    exit(0)
}

/// One line in one write, as several threads speak.
fn say(mut control: &UnixStream, line: &str) -> std::io::Result<()> {
    control.write_all(format!("{line}\n").as_bytes())
}

/// The whole file, exclusively, as lightningd's `lockf` does.
fn lock(file: &File) -> bool {
    let whole = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap_or(1),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or(0),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_SETLK(&whole)).is_ok()
}
