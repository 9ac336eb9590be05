//! The plugin's process with nothing between it and the clock: one thread writes, reads and takes the time.

use crate::{binaries, json_rpc, node::Node};
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// What a pipe takes in one write.
const PIPE: usize = 64 << 10;

/// A running plugin; killed when dropped.
pub struct PluginProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    read: Vec<u8>,
    next_id: u64,
}

impl PluginProcess {
    /// Starts it and asks for its manifest. Also returns the time from the start to the manifest's last byte.
    pub fn start(node: &Node) -> Result<(Self, Duration)> {
        Self::start_as(Command::new(binaries::binary("backstop")?), node)
    }

    /// The same by a command that runs it.
    pub fn start_as(mut command: Command, node: &Node) -> Result<(Self, Duration)> {
        command
            .current_dir(node.network_dir())
            .env("LIGHTNINGD_PLUGIN", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn()?;
        let mut plugin = Self {
            stdin: child.stdin.take().context("no stdin")?,
            stdout: child.stdout.take().context("no stdout")?,
            child,
            read: Vec::new(),
            next_id: 1,
        };
        plugin.call("getmanifest", b"{}")?;
        Ok((plugin, started.elapsed()))
    }

    /// One call of the hook, which must be answered with `continue`: the time from the last write of the request to
    /// the last byte of the answer.
    pub fn db_write(&mut self, data_version: u64, writes: &[Vec<u8>]) -> Result<Duration> {
        let params = json_rpc::db_write_params(data_version, writes);
        let (answer, time) = self.call("db_write", &params)?;
        ensure!(
            answer.contains("\"continue\""),
            "version {data_version} was answered with {answer}"
        );
        Ok(time)
    }

    /// Memory now and at most, bytes.
    pub fn memory(&self) -> Result<(u64, u64)> {
        memory(self.child.id())
    }

    /// Ends it as lightningd's own end does: `shutdown`, then it leaves by itself.
    pub fn stop(mut self) -> Result<()> {
        self.stdin.write_all(&json_rpc::notification("shutdown", b"{}"))?;
        ensure!(self.child.wait()?.success(), "the plugin failed at its end");
        Ok(())
    }

    fn call(&mut self, method: &str, params: &[u8]) -> Result<(String, Duration)> {
        let id = format!("cln:{method}#{}", self.next_id);
        self.next_id += 1;
        let request = json_rpc::request(&id, method, params);
        let mut sent = Instant::now();
        for piece in request.chunks(PIPE) {
            sent = Instant::now();
            self.stdin.write_all(piece)?;
        }
        let id = format!("\"id\":\"{id}\"");
        loop {
            let message = self.message()?;
            let time = sent.elapsed();
            if message.contains(&id) {
                return Ok((message, time));
            }
        }
    }

    /// The next message; the plugin ends each with a blank line.
    fn message(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|bytes| bytes == b"\n\n") {
                let message = self.read.drain(..end + 2).collect();
                return Ok(String::from_utf8(message)?);
            }
            let mut chunk = [0; 4096];
            match self.stdout.read(&mut chunk)? {
                0 => bail!("the plugin left"),
                len => self.read.extend_from_slice(chunk.get(..len).unwrap_or_default()),
            }
        }
    }
}

/// Memory of a process now and at most: `VmRSS` and `VmHWM`, bytes.
pub fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim_start_matches(':').trim().strip_suffix(" kB"));
        Ok(kib.context("no such field")?.parse::<u64>()? << 10)
    };
    Ok((field("VmRSS")?, field("VmHWM")?))
}

impl Drop for PluginProcess {
    fn drop(&mut self) {
        // It may have left already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
