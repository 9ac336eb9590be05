//! Roll-ups of large databases: what they send, and what appends feel of them.

use super::{
    input::Input,
    large::LargeNode,
    report::{Bar, Report, Unit},
    samples::Samples,
};
use crate::{node::Node, servers::Server};
use anyhow::{Context, Result, ensure};
use axum::body::Bytes;
use backstop::{
    record::{Batch, Content},
    shadow::Shadow,
};
use backstop_protocol::{
    head::Head,
    id::{RecordHash, RunId, TimelineId},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// How long a roll-up may take before the benchmark calls it a hang.
const PATIENCE: Duration = Duration::from_mins(10);
/// One batch every so often: 250 for each second.
const PACE: Duration = Duration::from_millis(4);
/// What one transaction changes, and a hundred do, where 316 MB are measured (issue "as fast as the disk allows").
const ONE: u64 = 7;
const HUNDRED: u64 = 328;

/// What the shadow and its roll-ups may add to the plugin's memory, bytes, whatever the database's size.
const SHADOW_MEMORY: u64 = 64 << 20;

/// Lengths of the databases, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Of which 1% of the pages change.
    pub large: u64,
    /// On which one and then a hundred transactions are rolled up.
    pub medium: u64,
}

/// Measures all of it, on servers of its own in `scratch`.
pub fn measure(
    lengths: Lengths,
    rounds: usize,
    input: &Input,
    scratch: &Path,
    report: &mut Report,
) -> Result<()> {
    few_pages(lengths.medium, &scratch.join("medium server"), report)?;
    many_pages(lengths.large, rounds, &scratch.join("large server"), report)?;
    pace(input, &scratch.join("shadow"), report)
}

/// After one transaction and after a hundred.
fn few_pages(len: u64, data: &Path, report: &mut Report) -> Result<()> {
    let node = Node::new(8)?;
    let server = Server::start_on(data)?;
    node.setup(&server.url())?;
    let mut large = LargeNode::start(&node, len)?;
    large.change(1)?;
    for (name, transactions, pages, most) in [
        ("roll-up: sent after 1 transaction", 1, ONE, 300_000.0),
        ("roll-up: sent after 100 transactions", 100, HUNDRED, 5_000_000.0),
    ] {
        let before = server.bytes_of_packs()?;
        for transaction in 0..transactions {
            // As many pages as divide evenly, and the rest with the last one.
            let each = pages / transactions;
            let rest = if transaction + 1 == transactions {
                pages % transactions
            } else {
                0
            };
            large.change(each + rest)?;
        }
        roll_up(&node, &server, &mut large, |large| large.change(0).map(drop))?;
        let sent = server.bytes_of_packs()?.saturating_sub(before);
        report.ours(name, Unit::Bytes, float(sent), Some(Bar::AtMost(most)));
    }
    Ok(())
}

/// A roll-up after 1% of the pages changed, again and again, with a load beside it.
fn many_pages(len: u64, rounds: usize, data: &Path, report: &mut Report) -> Result<()> {
    let (node, other) = (Node::new(9)?, Node::new(10)?);
    let server = Server::start_on(data)?;
    node.setup(&server.url())?;
    let mut large = LargeNode::start(&node, len)?;
    large.change(1)?;
    let (first, packs) = (server.bytes_of_packs()?, server.packs()?.len());
    report.compare(
        "packs: bytes of one on average (bare: 4 MiB)",
        Unit::Bytes,
        float(first) / float(packs as u64).max(1.0),
        float(4 << 20),
        Some(Bar::RatioAtLeast(1.0)),
    );

    other.setup(&server.url())?;
    let config = other.network_dir().join("backstop/config.toml");
    let text = std::fs::read_to_string(&config)?;
    ensure!(text.contains("keep = true"), "{text}");
    std::fs::write(config, text.replace("keep = true", "keep = false"))?;
    let mut small = LargeNode::start_small(&other)?;
    small.change(4)?;
    let (mut during, mut alone) = (Rounds::default(), Rounds::default());
    for round in 0..rounds {
        let mut left = large.pages() / 100;
        while left > 0 {
            let some = left.min(64);
            large.change(some)?;
            left -= some;
        }
        super::settle_disk();
        let mut times = Samples::default();
        roll_up(&node, &server, &mut large, |large| {
            times.push(paced(|| large.change(4))?);
            Ok(())
        })?;
        let batches = times.len().max(100);
        during.add(&times);
        if round == 0 {
            report.compare(
                "roll-up: sent after 1% changed (bare: the first one)",
                Unit::Bytes,
                float(server.bytes_of_packs()?.saturating_sub(first)),
                float(first),
                Some(Bar::RatioAtMost(0.05)),
            );
        }
        let mut times = Samples::default();
        for _ in 0..batches {
            times.push(paced(|| small.change(4))?);
        }
        alone.add(&times);
    }
    report.compare(
        "memory: plugin at most, through roll-ups (bare: no shadow, + 64 MiB)",
        Unit::Bytes,
        float(large.memory()?),
        float(small.memory()? + SHADOW_MEMORY),
        Some(Bar::RatioAtMost(1.0)),
    );
    for (name, during, alone, bar) in [
        (
            "append in a roll-up: median (bare: no shadow)",
            during.medians.median(),
            alone.medians.median(),
            None,
        ),
        (
            "append in a roll-up: p99 of a round (bare: no shadow)",
            during.p99s.median(),
            alone.p99s.median(),
            Some(Bar::RatioAtMost(2.0)),
        ),
    ] {
        report.compare(name, Unit::Seconds, during, alone, bar);
    }
    Ok(())
}

/// Of each round two figures: a disk that stands still once in a while spoils one.
#[derive(Default)]
struct Rounds {
    medians: Samples,
    p99s: Samples,
}

impl Rounds {
    fn add(&mut self, times: &Samples) {
        self.medians.push_value(times.median());
        self.p99s.push_value(times.p99());
    }
}

/// Orders a roll-up and does `meanwhile` again and again until the server has it.
fn roll_up(
    node: &Node,
    server: &Server,
    large: &mut LargeNode,
    mut meanwhile: impl FnMut(&mut LargeNode) -> Result<()>,
) -> Result<()> {
    let before = server.newest_base()?;
    server.order_roll_up(node.node_id()?)?;
    let began = Instant::now();
    while server.newest_base()? == before {
        ensure!(began.elapsed() < PATIENCE, "no roll-up came about");
        meanwhile(large)?;
    }
    Ok(())
}

/// Does it, and then nothing until it is time for the next one. How long it took.
fn paced(act: impl FnOnce() -> Result<Duration>) -> Result<Duration> {
    let time = act()?;
    std::thread::sleep(PACE.saturating_sub(time));
    Ok(time)
}

/// How many of the input's batches the shadow takes for each second.
fn pace(input: &Input, dir: &Path, report: &mut Report) -> Result<()> {
    let mut shadow = Shadow::empty(dir, TimelineId([1; 16]))?;
    let mut seq = 0;
    let mut time = Duration::ZERO;
    for run in input.runs() {
        let mut opens_run = true;
        for batch in run {
            seq += 1;
            let content = Content::Batch(Batch {
                run: RunId([u8::try_from(batch.run % 251)?; 16]),
                opens_run,
                outside_transaction: batch.writes.iter().all(|write| write.starts_with(b"PRAGMA")),
                data_version: batch.data_version,
                statements: batch.writes.clone(),
            });
            opens_run = false;
            let head = Head {
                epoch: 1,
                seq,
                hash: RecordHash([1; 32]),
            };
            let began = Instant::now();
            shadow
                .take(head, &content, &Bytes::new())
                .with_context(|| format!("batch {seq}"))?;
            time += began.elapsed();
        }
    }
    let batches = f64::from(u32::try_from(seq)?);
    report.compare(
        "shadow: batches applied (bare: as many as must be)",
        Unit::PerSecond,
        batches / time.as_secs_f64(),
        250.0,
        Some(Bar::RatioAtLeast(1.0)),
    );
    Ok(())
}

pub(super) fn float(bytes: u64) -> f64 {
    u32::try_from(bytes).map_or(f64::MAX, f64::from)
}
