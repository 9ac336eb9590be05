//! The least that an HTTP server can do, as a process of its own: take a body, answer a little JSON. Or the least that a durable one
//! can do: the same, once the body is in a flushed file.

use super::shared_file::SharedFile;
use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::{StatusCode, header},
    routing::{get, post},
    serve::ListenerExt as _,
};
use backstop_protocol::api;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::Ipv4Addr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The argument that makes this program the server instead; a file behind it makes it the durable one.
pub const ARGUMENT: &str = "bare-server";

/// Where as many bytes as a pack has are had for the asking.
pub const BYTES: &str = "/bytes";

/// As long as the answer to an append.
const ANSWER: &str = r#"{"head":{"epoch":1,"seq":1000,"hash":"0000000000000000000000000000000000000000000000000000000000000000"},"roll_up":false}"#;

/// The running server; killed when dropped.
pub struct BareServer {
    child: Child,
    address: String,
    /// Its end ends the server, however this process dies. A socket, because the plugin takes a child with a pipe for
    /// another plugin.
    _alive: UnixStream,
}

impl BareServer {
    /// Starts this program again as the server.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// The same as the server that keeps all bodies in `file`, which is made.
    pub fn start_durable(file: &Path) -> Result<Self> {
        Self::start_with(Some(file))
    }

    fn start_with(file: Option<&Path>) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .args(file)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut address)?;
        Ok(Self {
            child,
            address: address.trim().to_owned(),
            _alive: ours,
        })
    }

    /// `ADDRESS:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until standard input ends; says on standard output where. Bodies go to `file`, where there is one, before they are answered.
pub fn serve(file: Option<&Path>) -> Result<()> {
    let answer = || ([(header::CONTENT_TYPE, "application/json")], ANSWER);
    let records = match file.map(SharedFile::create).transpose()? {
        None => post(async move |_: Bytes| answer()),
        Some(file) => post(async move |body: Bytes| {
            let durable = file.append(body).await;
            durable.then(answer).ok_or(StatusCode::INSUFFICIENT_STORAGE)
        }),
    };
    // Of bytes that nothing on the way could make less of.
    let pack: Bytes = (0..api::PACK_TARGET as u64 / 8)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = Router::new()
            .route(api::RECORDS, records)
            .route(BYTES, get(move || std::future::ready(pack.clone())))
            .layer(DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        let listener = listener.tap_io(|connection| {
            // As the server that it stands beside; without it the figures differ and nothing breaks.
            let _ = connection.set_nodelay(true);
        });
        std::thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
        Ok(axum::serve(listener, router).await?)
    })
}
