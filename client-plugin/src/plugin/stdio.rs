//! What is written to lightningd: answers, its log, notifications.
//!
//! `cln-plugin` cannot be used: it exits on anything that comes before `init`, and batches do.

use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, Write as _};

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
