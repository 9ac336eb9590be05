//! Durable appends of many nodes at once, and of one alone, with flushes as they are and with slow ones.

use super::{
    Effort,
    bare::Bare,
    bare_server::BareServer,
    database::{Kind, Store},
    load::{self, Exchange},
    load_node::LoadNode,
    report::{Bar, Report, Unit},
    samples::Samples,
};
use crate::shim::Shim;
use anyhow::{Context, Result, ensure};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a slow disk takes longer for each flush.
const SLOWER: Duration = Duration::from_millis(2);
/// Of what a server takes that does nothing, the part that ours must take.
const SHARE: f64 = 1.0 / 6.0;
/// Of that load, the part under which waiting times are measured.
const HALF: f64 = 0.5;

/// A server and its database under load, beside the bare parts.
pub struct Throughput<'a> {
    store: Store,
    bare_server: &'a BareServer,
    /// What a durable server takes at least.
    floor: BareServer,
    bare: Bare,
    nodes: Vec<LoadNode>,
    lone: LoadNode,
    sizes: &'a [usize],
    effort: Effort,
}

impl<'a> Throughput<'a> {
    /// Starts a server over a database of this kind and opens sessions with it. Records have the lengths `sizes`, in turn.
    pub fn start(
        kind: Kind,
        scratch: &Path,
        bare_server: &'a BareServer,
        sizes: &'a [usize],
        effort: Effort,
    ) -> Result<Self> {
        let store = Store::start(kind, &scratch.join("loaded server"), &[]).context("the loaded server")?;
        let mut nodes = LoadNode::open_all(&store.server, 1, effort.many_nodes.max(effort.nodes) + 1)?;
        let parts = scratch.join("bare parts");
        Ok(Self {
            bare: Bare::new(kind, &parts, bare_server)?,
            floor: BareServer::start_durable(&parts.join("floor"))?,
            lone: nodes.pop().context("no node")?,
            store,
            bare_server,
            nodes,
            sizes,
            effort,
        })
    }

    /// With flushes as this machine's disk does them.
    pub fn measure(&mut self, report: &mut Report) -> Result<()> {
        let kind = self.store.kind.name();
        let nodes = self.effort.nodes;
        let (mut ours, mut bare) = (Loads::default(), Loads::default());
        let (mut half, mut half_floor) = (Loads::default(), Loads::default());
        for _ in 0..self.effort.rounds {
            let requests = Arc::new(self.requests(nodes)?);
            ours.add(&load::run(self.store.server.address(), &requests, None)?);
            let round = load::run(self.bare_server.address(), &requests, None)?;
            let pace = round.pace() * SHARE * HALF;
            bare.add(&round);
            let requests = Arc::new(self.requests(nodes)?);
            half.add(&load::run(self.store.server.address(), &requests, Some(pace))?);
            half_floor.add(&load::run(self.floor.address(), &requests, Some(pace))?);
        }
        let name = |what: &str| format!("server ({kind}): {what}");
        report.compare(
            &name(&format!("appends, {nodes} nodes (bare: HTTP)")),
            Unit::PerSecond,
            ours.paces.median(),
            bare.paces.median(),
            Some(Bar::RatioAtLeast(SHARE)),
        );
        let (ours_times, bare_times) = (&ours.times, &bare.times);
        report.compare(
            "  an append: median",
            Unit::Seconds,
            ours_times.median(),
            bare_times.median(),
            None,
        );
        report.compare(
            "  an append: p99",
            Unit::Seconds,
            ours_times.p99(),
            bare_times.p99(),
            None,
        );
        report.compare(
            "  fewest appends of a node, of the mean (bare: HTTP)",
            Unit::Share,
            ours.fewest.median(),
            bare.fewest.median(),
            Some(Bar::AtLeast(0.8)),
        );
        report.compare(
            "  an append at half of what the bar asks: median (bare: floor)",
            Unit::Seconds,
            half.times.median(),
            half_floor.times.median(),
            None,
        );
        report.compare(
            "  p99 of a round (bare: floor)",
            Unit::Seconds,
            half.p99s.median(),
            half_floor.p99s.median(),
            Some(Bar::AtMost(0.005)),
        );
        self.lone_writer(&name("lone append"), self.effort.lone, report)
    }

    /// With flushes that take 2 ms longer, under the server and under the bare parts.
    pub fn measure_slow(&mut self, shim: &Shim, report: &mut Report) -> Result<()> {
        let kind = self.store.kind.name();
        shim.delay(SLOWER)?;
        let mut flushes = Samples::default();
        for _ in 0..20 {
            flushes.push(self.bare.flush(&[0; 512])?);
        }
        ensure!(
            flushes.median() >= SLOWER.as_secs_f64(),
            "flushes are not slower: {} s",
            flushes.median()
        );
        report.bare(
            &format!("slow flushes ({kind}): append and fdatasync"),
            Unit::Seconds,
            flushes.median(),
        );
        for (nodes, least) in [
            (self.effort.nodes, 8_000.0 / 13_400.0),
            (self.effort.many_nodes, 20_000.0 / 46_600.0),
        ] {
            let (mut ours, mut floor) = (Loads::default(), Loads::default());
            for _ in 0..self.effort.rounds {
                let requests = Arc::new(self.requests(nodes)?);
                ours.add(&load::run(self.store.server.address(), &requests, None)?);
                floor.add(&load::run(self.floor.address(), &requests, None)?);
            }
            report.compare(
                &format!("slow flushes ({kind}): appends, {nodes} nodes (bare: floor)"),
                Unit::PerSecond,
                ours.paces.median(),
                floor.paces.median(),
                Some(Bar::RatioAtLeast(least)),
            );
            report.compare(
                "  an append: p99",
                Unit::Seconds,
                ours.times.p99(),
                floor.times.p99(),
                None,
            );
            report.ours(
                "  fewest appends of a node, of the mean",
                Unit::Share,
                ours.fewest.median(),
                Some(Bar::AtLeast(0.8)),
            );
        }
        let name = format!("slow flushes ({kind}): lone append");
        self.lone_writer(&name, self.effort.lone / 4 + 1, report)?;
        shim.delay(Duration::ZERO)
    }

    fn requests(&mut self, nodes: usize) -> Result<Vec<Vec<Vec<u8>>>> {
        let (sizes, appends) = (self.sizes, self.effort.appends);
        let nodes = self.nodes.iter_mut().take(nodes);
        nodes.map(|node| node.requests(sizes, appends)).collect()
    }

    /// One node's appends, each after the other, in turns with the bare parts. Whoever waited for others to commit with, or
    /// flushed twice, would take longer by that.
    fn lone_writer(&mut self, name: &str, appends: usize, report: &mut Report) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut ours, mut insert, mut post) = (Samples::default(), Samples::default(), Samples::default());
        let (mut server, mut bare_server) = runtime.block_on(async {
            anyhow::Ok((
                Exchange::to(self.store.server.address())?,
                Exchange::to(self.bare_server.address())?,
            ))
        })?;
        for round in 0..appends {
            let request = self.lone.request(self.sizes)?;
            let body = body(&request);
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => ours.push(timed(&runtime, &mut server, &request)?),
                    1 => post.push(timed(&runtime, &mut bare_server, &request)?),
                    _ => insert.push(self.bare.insert(body)?),
                }
            }
        }
        let bare = post.plus(&insert);
        report.compare(
            &format!("{name}, median (bare: call + insert)"),
            Unit::Seconds,
            ours.median(),
            bare.median(),
            Some(Bar::RatioAtMost(1.5)),
        );
        report.compare("  p99", Unit::Seconds, ours.p99(), bare.p99(), None);
        Ok(())
    }
}

/// What is stored of a request.
fn body(request: &[u8]) -> &[u8] {
    let end = request.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    request.get(end.map_or(0, |end| end + 4)..).unwrap_or_default()
}

fn timed(runtime: &tokio::runtime::Runtime, to: &mut Exchange, request: &[u8]) -> Result<Duration> {
    let began = Instant::now();
    runtime.block_on(to.ask(request))?;
    Ok(began.elapsed())
}

#[derive(Default)]
struct Loads {
    paces: Samples,
    fewest: Samples,
    times: Samples,
    /// Of each round: a disk that stands still once in a while spoils one.
    p99s: Samples,
}

impl Loads {
    fn add(&mut self, load: &load::Load) {
        self.paces.push_value(load.pace());
        self.fewest.push_value(load.fewest());
        let times = load.times();
        self.p99s.push_value(times.p99());
        self.times.extend(&times);
    }
}
