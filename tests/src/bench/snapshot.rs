//! The snapshot of a large database: how long the first one holds the node, with the database sent ahead and without, and how fast
//! it comes back.

use super::{
    bare_server::{self, BareServer},
    large::LargeNode,
    report::{Bar, Report, Unit},
    roll_up::float,
    samples::Samples,
};
use crate::{node::Node, servers::Server};
use anyhow::Result;
use backstop_protocol::{api, hash::sha256};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    time::{Duration, Instant},
};

/// Takes the first snapshot of a database of `len` bytes, of a node that sent it ahead and of one that did not, and restores it,
/// `rounds` times, each beside its bare part.
pub fn measure(
    len: u64,
    rounds: usize,
    bare_server: &BareServer,
    scratch: &Path,
    report: &mut Report,
) -> Result<()> {
    let bare = Bare::new(bare_server)?;
    let [mut ahead, mut whole] = std::array::from_fn(|_| [Samples::default(), Samples::default()]);
    let [mut restored, mut downloaded] = std::array::from_fn(|_| Samples::default());
    let mut bytes = 0;
    for round in 0..rounds {
        let data = scratch.join(format!("snapshot server {round}"));
        let server = Server::start_on(&data)?;
        let (node, prepared) = (Node::new(11)?, Node::new(12)?);
        LargeNode::fill(&node, len)?;
        std::fs::copy(node.database(), prepared.database())?;
        bytes = std::fs::metadata(node.database())?.len();

        node.command(&["setup", "--server", &server.url(), "--no-upload"])?
            .success()?;
        hold(&node, len, &bare, &mut whole)?;

        let to = scratch.join("downloaded");
        downloaded.push(bare.download(bytes, &to)?);
        std::fs::remove_file(&to)?;
        let to = scratch.join("restored");
        let began = Instant::now();
        node.restore(&server.url(), &to)?.success()?;
        restored.push(began.elapsed());
        std::fs::remove_dir_all(to)?;

        prepared.setup(&server.url())?;
        LargeNode::age(&prepared)?;
        hold(&prepared, len, &bare, &mut ahead)?;
        drop(server);
        std::fs::remove_dir_all(data)?;
    }
    for (name, [held, sent], bar) in [
        (
            "first batch held, database sent ahead (bare: read, hash, send)",
            &ahead,
            Some(Bar::RatioAtMost(3.0)),
        ),
        (
            "first batch held, nothing sent ahead (bare: read, hash, send)",
            &whole,
            None,
        ),
    ] {
        report.compare(name, Unit::Seconds, held.median(), sent.median(), bar);
    }
    let pace = |times: &Samples| float(bytes) / times.median();
    report.compare(
        "restore of a snapshot: bytes (bare: download, flush)",
        Unit::BytesPerSecond,
        pace(&restored),
        pace(&downloaded),
        Some(Bar::RatioAtLeast(0.6)),
    );
    Ok(())
}

/// How long a node's first batch is held, and how long its bare part takes.
fn hold(node: &Node, len: u64, bare: &Bare, [held, sent]: &mut [Samples; 2]) -> Result<()> {
    // A node's database was written long ago: what is measured is not to wait for that.
    File::open(node.database())?.sync_all()?;
    sent.push(bare.read_hash_send(&node.database())?);
    held.push(LargeNode::start_filled(node, len)?.change(1)?);
    Ok(())
}

/// What nobody can do without.
struct Bare {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    address: String,
}

impl Bare {
    fn new(server: &BareServer) -> Result<Self> {
        // A second call finds the provider installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            client: reqwest::Client::builder()
                .no_proxy()
                .http1_only()
                .tcp_nodelay(true)
                .build()?,
            address: server.address().to_owned(),
        })
    }

    /// Each byte of a file read, hashed, and sent over HTTP.
    fn read_hash_send(&self, file: &Path) -> Result<Duration> {
        let url = format!("http://{}{}", self.address, api::RECORDS);
        let began = Instant::now();
        let mut file = File::open(file)?;
        loop {
            let mut piece = Vec::with_capacity(api::PACK_TARGET);
            if (&mut file)
                .take(api::PACK_TARGET as u64)
                .read_to_end(&mut piece)?
                == 0
            {
                return Ok(began.elapsed());
            }
            std::hint::black_box(sha256(&piece));
            self.runtime.block_on(async {
                let answer = self.client.post(&url).body(piece).send().await?;
                answer.error_for_status()?.bytes().await
            })?;
        }
    }

    /// As many bytes, one pack's worth after another, into a file that is flushed at its end.
    fn download(&self, bytes: u64, to: &Path) -> Result<Duration> {
        let url = format!("http://{}{}", self.address, bare_server::BYTES);
        let began = Instant::now();
        let mut file = File::create_new(to)?;
        let mut left = bytes;
        while left > 0 {
            let piece = self.runtime.block_on(async {
                let answer = self.client.get(&url).send().await?;
                answer.error_for_status()?.bytes().await
            })?;
            let some = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            file.write_all(piece.get(..some).unwrap_or_default())?;
            left -= some as u64;
        }
        file.sync_all()?;
        Ok(began.elapsed())
    }
}
