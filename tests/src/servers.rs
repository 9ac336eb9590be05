//! Real `backstop-server` processes.

use crate::binaries;
use anyhow::{Context, Result, bail};
use backstop_protocol::id::NodeId;
use rusqlite::{Connection, OpenFlags};
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a server may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a port of its own; killed and forgotten when dropped.
pub struct Server {
    child: Child,
    address: String,
    data: PathBuf,
    /// What it was told beside address and data.
    arguments: Vec<String>,
    _own: Option<TempDir>,
}

impl Server {
    /// Starts one with an empty data directory.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with an empty data directory and more arguments.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        let own = tempfile::tempdir()?;
        let data = own.path().join("data");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (child, address) = spawn("127.0.0.1:0", &data, &arguments)?;
        Ok(Self {
            child,
            address,
            data,
            arguments,
            _own: Some(own),
        })
    }

    /// Starts one whose data directory is a file system of its own with room for so many bytes. Where this machine
    /// does not allow that, says so and gives nothing.
    pub fn start_with_room(bytes: u64, arguments: &[&str]) -> Result<Option<Self>> {
        let own = tempfile::tempdir()?;
        let data = own.path().join("data");
        std::fs::create_dir(&data)?;
        let Some(mut prefix) = crate::disk::with_room(bytes, &data) else {
            say("this machine lets nobody mount a small file system: the full disk was not tried");
            return Ok(None);
        };
        let mut command = Command::new(prefix.remove(0));
        command.args(prefix).arg(binaries::binary("backstop-server")?);
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (child, address) = spawn_as(command, "127.0.0.1:0", &data, &arguments)?;
        Ok(Some(Self {
            child,
            address,
            data,
            arguments,
            _own: Some(own),
        }))
    }

    /// Starts one on data that are there.
    pub fn start_on(data: &Path) -> Result<Self> {
        Self::start_on_with(data, &[])
    }

    /// The same with more arguments.
    pub fn start_on_with(data: &Path, arguments: &[&str]) -> Result<Self> {
        let command = Command::new(binaries::binary("backstop-server")?);
        Self::start_as(command, data, arguments)
    }

    /// The same by a command that lacks only the server's own arguments.
    pub fn start_as(command: Command, data: &Path, arguments: &[&str]) -> Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (child, address) = spawn_as(command, "127.0.0.1:0", data, &arguments)?;
        Ok(Self {
            child,
            address,
            data: data.to_owned(),
            arguments,
            _own: None,
        })
    }

    /// `http://ADDRESS:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `ADDRESS:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// `kill -TERM`, and waits until it has ended in order: its database is one file then.
    pub fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Starts it again on the same port and data.
    pub fn restart(&mut self) -> Result<()> {
        (self.child, self.address) = spawn(&self.address, &self.data, &self.arguments)?;
        Ok(())
    }

    /// Stops it and starts another one in its place: on the same address, with these data, arguments and variables.
    pub fn give_way_to(&mut self, data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        self.stop()?;
        let mut command = Command::new(binaries::binary("backstop-server")?);
        command.envs(variables.iter().copied());
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        data.clone_into(&mut self.data);
        (self.child, self.address) = spawn_as(command, &self.address, data, &self.arguments)?;
        Ok(())
    }

    /// Its data directory as it sees it: with the file system that was mounted for it alone. Until it ends.
    pub fn data_inside(&self) -> Result<PathBuf> {
        crate::disk::inside(self.child.id(), &self.data)
    }

    /// An operator orders a roll-up of a node.
    pub fn order_roll_up(&self, node: NodeId) -> Result<()> {
        let ordered = Command::new(binaries::binary("backstop-server")?)
            .args(["node", "rollup", &node.to_string(), "--data"])
            .arg(&self.data)
            .output()?;
        anyhow::ensure!(ordered.status.success(), "{ordered:?}");
        Ok(())
    }

    /// Its operator says that its data are a copy of an earlier time.
    pub fn mark_restored(&self) -> Result<()> {
        let said = Command::new(binaries::binary("backstop-server")?)
            .args(["restored", "--data"])
            .arg(&self.data)
            .output()?;
        anyhow::ensure!(said.status.success(), "{said:?}");
        Ok(())
    }

    /// Stops it, and keeps a copy of its data under a name that is free.
    pub fn keep(&mut self, to: &Path) -> Result<()> {
        self.stop()?;
        crate::disk::copy_directory(&self.data, to)?;
        self.restart()
    }

    /// Stops it, and starts it again on data that were kept.
    pub fn go_back(&mut self, to: &Path) -> Result<()> {
        self.kill()?;
        std::fs::remove_dir_all(&self.data)?;
        crate::disk::copy_directory(to, &self.data)?;
        self.restart()
    }

    /// Loses everything but its identity.
    pub fn lose_everything(&mut self) -> Result<()> {
        self.stop()?;
        let database = self.data.join("backstop.sqlite3");
        for suffix in ["", "-wal", "-shm"] {
            crate::disk::remove(&crate::disk::beside(&database, suffix))?;
        }
        self.restart()
    }

    /// The packs that it keeps, in the order of their names.
    pub fn packs(&self) -> Result<Vec<PathBuf>> {
        let mut packs = files_under(&self.data.join("packs"))?;
        packs.sort();
        Ok(packs)
    }

    /// Their bytes together; nothing before the first one.
    pub fn bytes_of_packs(&self) -> Result<u64> {
        bytes_under(&self.data.join("packs"))
    }

    /// The record after which its newest snapshot of any node stands; nothing where it has none.
    pub fn newest_base(&self) -> Result<Option<i64>> {
        let database = self.data.join("backstop.sqlite3");
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(connection.query_row("SELECT max(base_seq) FROM snapshots", [], |row| row.get(0))?)
    }

    /// Bytes of all files in its data directory.
    pub fn bytes_on_disk(&self) -> Result<u64> {
        bytes_under(&self.data)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.kill();
    }
}

/// Starts the program and waits for the line in which it says where it listens.
fn spawn(listen: &str, data: &Path, arguments: &[String]) -> Result<(Child, String)> {
    let server = Command::new(binaries::binary("backstop-server")?);
    spawn_as(server, listen, data, arguments)
}

/// Starts it by a command that lacks only the server's own arguments.
fn spawn_as(
    mut command: Command,
    listen: &str,
    data: &Path,
    arguments: &[String],
) -> Result<(Child, String)> {
    let mut child = command
        .args(["serve", "--listen", listen, "--data"])
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (lines_in, lines) = channel();
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    let lines_of_stderr = lines_in.clone();
    std::thread::spawn(move || drain(stdout, &lines_in));
    std::thread::spawn(move || drain(stderr, &lines_of_stderr));
    match wait_for_address(&lines) {
        Ok(address) => Ok((child, address)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn wait_for_address(lines: &Receiver<String>) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut said = String::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some((_, rest)) = line.split_once("listening on http://") {
                    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:[]-".contains(c)));
                    return Ok(rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest).to_owned());
                }
                said.push_str(&line);
                said.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => bail!("the server does not say where it listens:\n{said}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the server left:\n{said}"),
        }
    }
}

/// Reads to the end, so that the server never waits for a reader.
fn drain(stream: impl Read, lines: &Sender<String>) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        // Once the address is known nobody listens any more.
        let _ = lines.send(line);
    }
}

/// Bytes of all files under a directory.
pub fn bytes_under(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for file in files_under(directory)? {
        sum += file.metadata()?.len();
    }
    Ok(sum)
}

/// All files under a directory.
fn files_under(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_under(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn say(line: &str) {
    eprintln!("{line}");
}
