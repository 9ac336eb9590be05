//! A plugin that says `continue` to everything and writes down what it was told: the simulated lightningd is tested
//! against it. `YES_PLUGIN_LOG` names the file, `YES_PLUGIN_REFUSE` a version that it refuses once.

use anyhow::{Context, Result};
use backstop_tests::heard;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    fs::File,
    io::{Read, Write},
    sync::mpsc::channel,
    time::Duration,
};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: String,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    #[serde(default)]
    data_version: u64,
    #[serde(default)]
    writes: Vec<heard::Bytes>,
}

fn main() -> Result<()> {
    let path = std::env::var_os("YES_PLUGIN_LOG").context("YES_PLUGIN_LOG is not set")?;
    let refuse = std::env::var("YES_PLUGIN_REFUSE").ok();
    let mut log = File::options().append(true).create(true).open(path)?;
    let (mut pending, mut searched, mut stdout) = (Vec::new(), 0, std::io::stdout().lock());
    let (chunks_in, chunks) = channel();
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(len @ 1..) = std::io::stdin().read(&mut chunk) {
            // Nobody listens once the main thread has left.
            let _ = chunks_in.send(chunk.get(..len).unwrap_or_default().to_vec());
        }
    });
    // After `shutdown` other plugins may still write for a moment.
    let mut patience = Duration::MAX;
    loop {
        let Ok(chunk) = chunks.recv_timeout(patience) else {
            return Ok(());
        };
        pending.extend_from_slice(&chunk);
        while let Some(end) = pending.iter().skip(searched).position(|byte| *byte == b'\n') {
            // The second of the two line ends is white space before the next message.
            let message: Vec<u8> = pending.drain(..=(searched + end)).collect();
            searched = 0;
            if message == b"\n" {
                continue;
            }
            let request: Request<'_> = serde_json::from_slice(&message).context("a request")?;
            let result = match request.method.as_str() {
                "getmanifest" => {
                    r#"{"options":[],"rpcmethods":[],"hooks":["db_write"],"subscriptions":["shutdown"]}"#
                }
                "db_write" if refuse == Some(request.params.data_version.to_string()) => {
                    r#"{"result":"fail"}"#
                }
                "db_write" => {
                    heard::write(&mut log, request.params.data_version, &request.params.writes)?;
                    r#"{"result":"continue"}"#
                }
                "shutdown" => {
                    patience = Duration::from_millis(200);
                    "{}"
                }
                _ => "{}",
            };
            if let Some(id) = request.id {
                write!(
                    stdout,
                    "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n"
                )?;
                stdout.flush()?;
            }
        }
        searched = pending.len();
    }
}
