//! A stand-in for lightningd: answers each connection with one prepared text, in pieces.

use super::{ID, Rpc};
use serde_json::json;
use std::{io::Write as _, os::unix::net::UnixListener, path::PathBuf, thread::JoinHandle};

/// Prepared answers behind a socket.
pub(crate) struct Lightningd {
    dir: tempfile::TempDir,
    thread: Option<JoinHandle<Vec<serde_json::Value>>>,
}

impl Lightningd {
    /// Answers as many calls as there are answers; one of length zero closes the connection at once.
    pub(crate) fn answering(answers: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("rpc")).unwrap();
        let answers = answers.to_vec();
        let thread =
            std::thread::spawn(move || answers.iter().map(|answer| serve(&listener, answer)).collect());
        Self {
            dir,
            thread: Some(thread),
        }
    }

    pub(crate) fn rpc(&self) -> Rpc {
        Rpc::new(&self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("rpc")
    }

    /// What was asked, once every answer was given.
    pub(crate) fn requests(mut self) -> Vec<serde_json::Value> {
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Reads one request and sends `answer`; returns the request.
pub(super) fn serve(listener: &UnixListener, answer: &str) -> serde_json::Value {
    let (mut stream, _) = listener.accept().unwrap();
    let request = serde_json::Deserializer::from_reader(&stream)
        .into_iter()
        .next()
        .unwrap()
        .unwrap();
    for piece in answer.as_bytes().chunks(7) {
        // Whoever asks may leave as soon as the answer is complete.
        let _ = stream.write_all(piece);
    }
    request
}

/// An answer with this result, as lightningd frames it.
pub(crate) fn result(value: &serde_json::Value) -> String {
    json!({ "jsonrpc": "2.0", "id": ID, "result": value }).to_string() + "\n\n"
}
