//! A plugin that says `continue` to everything and writes down what it was told: the simulated lightningd is tested
//! against it. `YES_PLUGIN_LOG` names the file, `YES_PLUGIN_REFUSE` a version that it refuses once.

use anyhow::{Context, Result};
use backstop_tests::heard;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    fs::File,
    io::{Read, Write},
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
    let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut pending, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let len = stdin.read(&mut chunk)?;
        if len == 0 {
            return Ok(());
        }
        pending.extend_from_slice(chunk.get(..len).unwrap_or_default());
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
            let message: Vec<u8> = pending.drain(..end + 2).collect();
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
                "shutdown" => return Ok(()),
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
    }
}
