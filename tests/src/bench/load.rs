//! Many nodes append at once: durable appends for each second, beside the bare HTTP server under the same requests.

use super::{
    Effort,
    bare_server::BareServer,
    report::{Bar, Report, Unit},
    samples::Samples,
};
use crate::{caller::Caller, servers::Server};
use anyhow::{Context, Result, ensure};
use backstop_protocol::{
    api,
    id::{RecordHash, TimelineId},
    record::{RecordHeader, RecordKind, record_hash},
};
use std::{
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Threads that make the load.
const THREADS: usize = 2;

/// Appends in rounds, each once to the server and once to the bare one. Records have the lengths `sizes`, in turn.
pub fn measure(
    server: &Server,
    bare_server: &BareServer,
    sizes: &[usize],
    effort: Effort,
    report: &mut Report,
) -> Result<()> {
    let mut nodes = (1..=effort.sessions)
        .map(|byte| LoadNode::open(server, byte))
        .collect::<Result<Vec<_>>>()?;
    let (mut ours, mut bare) = (Loads::default(), Loads::default());
    for _ in 0..effort.rounds {
        // Everything is made beforehand, so that the load costs as little as it can.
        let requests = nodes
            .iter_mut()
            .map(|node| node.requests(sizes, effort.appends))
            .collect::<Result<Vec<_>>>()?;
        let requests = Arc::new(requests);
        ours.add(run(server.address(), &requests)?);
        bare.add(run(bare_server.address(), &requests)?);
    }
    report.compare(
        &format!("server: appends, {} sessions (bare: HTTP)", effort.sessions),
        Unit::PerSecond,
        ours.paces.median(),
        bare.paces.median(),
        Some(Bar::RatioAtLeast(1.0 / 6.0)),
    );
    report.compare(
        "  an append: median",
        Unit::Seconds,
        ours.times.median(),
        bare.times.median(),
        None,
    );
    report.compare(
        "  an append: p99",
        Unit::Seconds,
        ours.times.p99(),
        bare.times.p99(),
        None,
    );
    Ok(())
}

#[derive(Default)]
struct Loads {
    paces: Samples,
    times: Samples,
}

impl Loads {
    fn add(&mut self, (pace, times): (f64, Samples)) {
        self.paces.push_value(pace);
        self.times.extend(&times);
    }
}

/// A node with an open session, and the end of its chain.
struct LoadNode {
    caller: Caller,
    seq: u64,
    prev: RecordHash,
}

impl LoadNode {
    fn open(server: &Server, byte: u8) -> Result<Self> {
        let mut caller = Caller::new(server.address(), byte)?;
        caller.open(caller.opening(0))?;
        Ok(Self {
            caller,
            seq: 0,
            prev: RecordHash::NONE,
        })
    }

    /// The next appends, as the bytes that go over the wire.
    fn requests(&mut self, sizes: &[usize], count: usize) -> Result<Vec<Vec<u8>>> {
        (0..count).map(|_| self.request(sizes)).collect()
    }

    fn request(&mut self, sizes: &[usize]) -> Result<Vec<u8>> {
        self.seq += 1;
        let header = RecordHeader {
            kind: RecordKind::Batch,
            timeline: TimelineId([7; 16]),
            epoch: 1,
            seq: self.seq,
            prev: self.prev,
            nonce: [0; 24],
        };
        let mut sealed = header.encode();
        // Every node is at another place of the input.
        let place = usize::try_from(self.seq)? + 97 * usize::from(self.caller.access.access_key().0[0]);
        sealed.resize(sizes.get(place % sizes.len()).copied().context("no sizes")?, 0xa5);
        self.prev = record_hash(&sealed);
        let authorization = self.caller.authorization("POST", api::RECORDS, &sealed)?;
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            api::RECORDS,
            self.caller.address,
            sealed.len()
        )
        .into_bytes();
        request.extend_from_slice(&sealed);
        Ok(request)
    }
}

/// Every session sends its requests one after the other, all sessions at once. Requests for each second, and the time
/// of each.
fn run(address: &str, requests: &Arc<Vec<Vec<Vec<u8>>>>) -> Result<(f64, Samples)> {
    let gate = Arc::new(Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (requests, gate, address) = (requests.clone(), gate.clone(), address.to_owned());
            std::thread::spawn(move || some_sessions(&address, &requests, thread, &gate))
        })
        .collect();
    gate.wait();
    let began = Instant::now();
    let mut times = Samples::default();
    for thread in threads {
        let done = thread
            .join()
            .map_err(|_| anyhow::anyhow!("a thread of the load broke"))?;
        times.extend(&done?);
    }
    let pace = f64::from(u32::try_from(times.len())?) / began.elapsed().as_secs_f64();
    Ok((pace, times))
}

/// The sessions of one thread: every [`THREADS`]th from the first.
fn some_sessions(address: &str, requests: &[Vec<Vec<u8>>], first: usize, gate: &Barrier) -> Result<Samples> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut connections = Vec::new();
        for _ in requests.iter().skip(first).step_by(THREADS) {
            let connection = TcpStream::connect(address).await?;
            connection.set_nodelay(true)?;
            connections.push(connection);
        }
        gate.wait();
        let sessions: Vec<_> = requests
            .iter()
            .skip(first)
            .step_by(THREADS)
            .cloned()
            .zip(connections)
            .map(|(requests, connection)| tokio::task::spawn_local(session(connection, requests)))
            .collect();
        let mut times = Samples::default();
        for session in sessions {
            for time in session.await?? {
                times.push(time);
            }
        }
        Ok(times)
    })
}

async fn session(mut connection: TcpStream, requests: Vec<Vec<u8>>) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(requests.len());
    let mut answer = Vec::new();
    for request in requests {
        let began = Instant::now();
        connection.write_all(&request).await?;
        answer.clear();
        while !is_whole(&answer)? {
            ensure!(
                connection.read_buf(&mut answer).await? > 0,
                "the server hung up: {}",
                String::from_utf8_lossy(&answer)
            );
        }
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Whether a success is there to its last byte.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(answer.get(..end).unwrap_or_default())?;
    ensure!(
        head.starts_with("HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(answer)
    );
    let len = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without a length")?;
    Ok(answer.len() >= end + 4 + len.1.parse::<usize>()?)
}
