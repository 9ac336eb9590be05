//! A plugin process as lightningd sees it: two streams, a parent, an end.

use crate::{
    binaries,
    json_rpc::{self, Message},
};
use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What is started, where, and with what around it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// More arguments, such as `--developer`.
    pub arguments: Vec<String>,
    /// More variables.
    pub variables: Vec<(String, String)>,
    /// How long lightningd waits here for anything before the test calls it a hang.
    pub patience: Duration,
}

impl Program {
    /// An executable with nothing special, and a minute's patience.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            patience: Duration::from_mins(1),
        }
    }
}

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub enum NoReply {
    /// Its streams have ended.
    #[error("the plugin left")]
    Left,
    /// It sent something for which lightningd kills plugins.
    #[error("the plugin sent garbage: {0}")]
    Garbage(String),
    /// It neither answered nor left.
    #[error("the plugin was silent for {0:?}")]
    Silent(Duration),
}

enum Event {
    Message(Message),
    Garbage(String),
    StreamEnded,
    Exited(i32),
}

/// A running plugin. Dropping it kills it.
pub struct Plugin {
    stand_in: Child,
    control: Option<UnixStream>,
    answers: Receiver<String>,
    pid: Pid,
    stdin: Option<ChildStdin>,
    events: Receiver<Event>,
    stream_ended: bool,
    exited: Option<i32>,
    stash: Vec<Message>,
    log: Vec<(String, String)>,
    scratch: TempDir,
    patience: Duration,
}

impl Plugin {
    /// Starts it as lightningd does, `directory` being `<lightning-dir>/<network>`.
    pub fn start(program: &Program, directory: &Path) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let (control, theirs) = UnixStream::pair()?;
        let mut stand_in = Command::new(binaries::binary("stand-in")?)
            .arg(scratch.path().join("stderr"))
            .arg(&program.path)
            .args(&program.arguments)
            .current_dir(directory)
            .env("LIGHTNINGD_PLUGIN", "1")
            .env("LIGHTNINGD_VERSION", "v26.06.6")
            .envs(program.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()?;
        let (events_in, events) = channel();
        let (answers_in, answers) = channel();
        let stdin = stand_in.stdin.take();
        let stdout = stand_in.stdout.take().context("no stdout")?;
        let reading = control.try_clone()?;
        let from_control = events_in.clone();
        std::thread::spawn(move || read_control(reading, &from_control, &answers_in));
        std::thread::spawn(move || read_messages(stdout, &events_in));
        // The command above held the other end of the control socket until here: `recv` ends if the stand-in does.
        let said: String = answers.recv().context("the stand-in left without a word")?;
        let pid = said
            .strip_prefix("started ")
            .with_context(|| format!("the plugin did not start: {said}"))?;
        let pid = pid.parse()?;
        Ok(Self {
            stand_in,
            control: Some(control),
            answers,
            pid: Pid::from_raw(pid),
            stdin,
            events,
            stream_ended: false,
            exited: None,
            stash: Vec::new(),
            log: Vec::new(),
            scratch,
            patience: program.patience,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its parent's, which is lightningd's and stands in the pidfile.
    pub fn parent(&self) -> u32 {
        self.stand_in.id()
    }

    /// The parent takes the lock of lightningd's pidfile, as lightningd does after `getmanifest`.
    pub fn lock_pidfile(&mut self, path: &Path) -> Result<()> {
        let control = self.control.as_mut().context("lightningd is dead")?;
        writeln!(control, "pidfile {}", path.display())?;
        match self.answers.recv()?.as_str() {
            "locked" => Ok(()),
            other => bail!("the pidfile {} is {other}", path.display()),
        }
    }

    /// Writes bytes to its stdin.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let stdin = self.stdin.as_mut().ok_or_else(broken)?;
        stdin.write_all(bytes)?;
        stdin.flush()
    }

    /// The next message that is no log line.
    pub fn next_message(&mut self) -> Result<Message, NoReply> {
        if !self.stash.is_empty() {
            return Ok(self.stash.remove(0));
        }
        self.receive()
    }

    /// The reply to `id`, given as JSON; other messages wait.
    pub fn reply(&mut self, id: &str) -> Result<Message, NoReply> {
        if let Some(at) = self
            .stash
            .iter()
            .position(|message| message.raw("id") == Some(id))
        {
            return Ok(self.stash.remove(at));
        }
        loop {
            let message = self.receive()?;
            if message.raw("id") == Some(id) {
                return Ok(message);
            }
            self.stash.push(message);
        }
    }

    fn receive(&mut self) -> Result<Message, NoReply> {
        let deadline = Instant::now() + self.patience;
        while !self.stream_ended {
            match self
                .events
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(event) => {
                    if let Some(message) = self.take(event)? {
                        return Ok(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(NoReply::Silent(self.patience)),
                Err(RecvTimeoutError::Disconnected) => self.stream_ended = true,
            }
        }
        Err(NoReply::Left)
    }

    /// Files an event; a message that is no log line comes back.
    fn take(&mut self, event: Event) -> Result<Option<Message>, NoReply> {
        match event {
            Event::Message(message) => match message.log() {
                Some(line) => self.log.push(line),
                None => return Ok(Some(message)),
            },
            Event::Garbage(what) => return Err(NoReply::Garbage(what)),
            Event::StreamEnded => self.stream_ended = true,
            Event::Exited(status) => self.exited = Some(status),
        }
        Ok(None)
    }

    /// What it logged so far: level and text.
    pub fn log(&mut self) -> &[(String, String)] {
        while let Ok(event) = self.events.try_recv() {
            if let Ok(Some(message)) = self.take(event) {
                self.stash.push(message);
            }
        }
        &self.log
    }

    /// Whether its streams have ended or its parent saw its end.
    pub fn has_left(&mut self) -> bool {
        self.log();
        self.stream_ended || self.exited.is_some()
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        let written = std::fs::read(self.scratch.path().join("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Log and stderr for a failed assertion.
    pub fn says(&mut self) -> String {
        let mut log = String::new();
        for (level, line) in self.log() {
            log.extend(["  ", level.as_str(), ": ", line.as_str(), "\n"]);
        }
        format!(
            "log of the plugin:\n{log}stderr of the plugin:\n{}",
            self.stderr()
        )
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        self.log();
        if self.exited.is_none() {
            // It may have left between the two lines.
            let _ = kill(self.pid, signal);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.wait();
    }

    /// Waits until it has left; its exit status, or the negative number of the signal that ended it. An orphan's
    /// status nobody learns: it counts as 0.
    pub fn wait(&mut self) -> Result<i32, NoReply> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let (true, Some(status)) = (self.stream_ended, self.exited.or(self.orphan_status())) {
                return Ok(status);
            }
            match self
                .events
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(event) => {
                    if let Some(message) = self.take(event)? {
                        self.stash.push(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(NoReply::Silent(self.patience)),
                Err(RecvTimeoutError::Disconnected) => {
                    self.stream_ended = true;
                    self.exited = self.exited.or(Some(0));
                }
            }
        }
    }

    fn orphan_status(&self) -> Option<i32> {
        self.control.is_none().then_some(0)
    }

    /// Its parent is gone as after `kill -9`: the pidfile is free, the streams end, the plugin is an orphan.
    pub fn orphan(&mut self) {
        self.stdin = None;
        if self.control.take().is_some() {
            let _ = self.stand_in.kill();
            let _ = self.stand_in.wait();
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.stdin = None;
        self.signal(Signal::SIGKILL);
        self.orphan();
    }
}

fn read_control(control: UnixStream, events: &Sender<Event>, answers: &Sender<String>) {
    for line in BufReader::new(control).lines().map_while(Result::ok) {
        let sent = match line.strip_prefix("exited ") {
            Some(status) => events.send(Event::Exited(status.parse().unwrap_or(-1))).is_ok(),
            None => answers.send(line).is_ok(),
        };
        if !sent {
            return;
        }
    }
}

fn read_messages(stdout: impl Read, events: &Sender<Event>) {
    for message in json_rpc::messages(stdout) {
        let event = message.map_or_else(|error| Event::Garbage(format!("{error:#}")), Event::Message);
        let last = matches!(event, Event::Garbage(_));
        if events.send(event).is_err() || last {
            break;
        }
    }
    let _ = events.send(Event::StreamEnded);
}
