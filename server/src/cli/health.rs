//! `backstop-server health`: whether the server that runs here is ready, for container engines and scripts, which have no HTTP
//! client at hand.

use anyhow::{Context as _, bail};
use clap::Args;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// So much of the answer is read, bytes: its first line suffices.
const ANSWER_MAX: u64 = 4096;

#[derive(Debug, Args)]
pub(super) struct Health {
    /// Where the server answers /ready, as for serve.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
}

/// Asks, and fails where the server is not ready.
pub(super) async fn run(health: &Health) -> anyhow::Result<String> {
    let Some(listener) = health.metrics else {
        bail!("the server answers such questions only with --metrics ADDR:PORT: set it there and here");
    };
    let address = near(listener);
    let answer = timeout(PATIENCE, ask(address)).await;
    let answer = answer
        .with_context(|| format!("{address} did not answer within {} s", PATIENCE.as_secs()))?
        .with_context(|| format!("no server answers on {address}"))?;
    let line = answer.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok("ok: ready\n".to_owned()),
        Some("503") => bail!("the server is not ready: its database does not answer, or it is stopping"),
        _ => bail!("what answers on {address} is no Backstop server: {line:?}"),
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The address as this machine reaches it: a listener on all addresses is reached on the loopback.
fn near(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}
