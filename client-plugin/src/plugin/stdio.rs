//! The two pipes to lightningd.
//!
//! `cln-plugin` cannot be used: it exits on anything that comes before `init`, and batches do. Reading happens on a
//! thread of its own, so that the end of the stream is noticed while a batch waits for a server.

use super::frame::Framer;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    io::{self, Read, Write},
    thread,
};
use tokio::sync::mpsc;

/// What the reading thread found.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A whole JSON object.
    Frame(Vec<u8>),
    /// lightningd closed the pipe: it has ended, or wants us to.
    End,
    /// The stream cannot be read any further.
    Broken(String),
}

/// Reads standard input until it ends. The queue is unbounded and yet small: lightningd has one batch out at a time.
pub(crate) fn read() -> io::Result<mpsc::UnboundedReceiver<Incoming>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let last = match read_frames(io::stdin().lock(), &sender) {
            Ok(()) => Incoming::End,
            Err(reason) => Incoming::Broken(reason),
        };
        // Where nobody listens any more, nobody needs to know.
        let _ = sender.send(last);
    })?;
    Ok(receiver)
}

fn read_frames(mut input: impl Read, sender: &mpsc::UnboundedSender<Incoming>) -> Result<(), String> {
    let mut framer = Framer::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.to_string()),
        };
        framer.push(buffer.get(..len).unwrap_or_default());
        while let Some(frame) = framer.next().map_err(|error| error.to_string())? {
            if sender.send(Incoming::Frame(frame)).is_err() {
                return Ok(());
            }
        }
    }
}

/// Levels of lightningd's log. `Warn` shows as UNUSUAL, `Error` as BROKEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

// An error in writing means that lightningd is gone. The end of standard input says so too, and that is where it is
// handled.

/// Answers a request.
pub(crate) fn reply(id: &Value, result: &Value) {
    send(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
}

/// Answers a request with an error.
pub(crate) fn refuse(id: &Value, code: i32, message: &str) {
    send(&json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }));
}

/// Writes to lightningd's log.
pub(crate) fn log(level: Level, message: &str) {
    send(&json!({ "jsonrpc": "2.0", "method": "log", "params": { "level": level, "message": message } }));
}

/// Sends a notification that was announced in the manifest.
pub(crate) fn notify(topic: &str, payload: &Value) {
    send(&json!({ "jsonrpc": "2.0", "method": topic, "params": payload }));
}

fn send(message: &Value) {
    let mut line = message.to_string().into_bytes();
    line.extend_from_slice(b"\n\n");
    let mut out = io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}
