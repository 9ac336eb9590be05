//! Many nodes append at once, on as few threads and with as little work as that takes: the load shares the machine with the
//! server.

use super::{load_node::Wire, samples::Samples};
use anyhow::{Context, Result, ensure};
use std::{
    net::TcpStream,
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Threads that make the load.
const THREADS: usize = 2;

/// One answered request.
#[derive(Clone, Copy, Debug)]
struct Answered {
    /// Since the load began.
    at: Duration,
    /// Since the request was due.
    took: Duration,
}

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Of each session, in order.
    sessions: Vec<Vec<Answered>>,
}

impl Load {
    /// While every session was still at it: the time of the first one's last answer.
    fn together(&self) -> Duration {
        let ends = self.sessions.iter().filter_map(|answers| answers.last());
        ends.map(|answered| answered.at).min().unwrap_or_default()
    }

    /// Answers of each session within that time.
    fn counts(&self) -> Vec<f64> {
        let together = self.together();
        let within = |answers: &Vec<Answered>| answers.iter().filter(|a| a.at <= together).count();
        let float = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
        self.sessions.iter().map(within).map(float).collect()
    }

    /// Answers for each second, of all sessions together.
    pub fn pace(&self) -> f64 {
        self.counts().iter().sum::<f64>() / self.together().as_secs_f64()
    }

    /// Answers of the session that got the fewest, over the mean: 1 where all got the same.
    pub fn fewest(&self) -> f64 {
        let counts = self.counts();
        let mean = counts.iter().sum::<f64>() / f64::from(u32::try_from(counts.len()).unwrap_or(u32::MAX));
        counts.iter().copied().fold(f64::MAX, f64::min) / mean
    }

    /// How long each took.
    pub fn times(&self) -> Samples {
        let mut times = Samples::default();
        for answered in self.sessions.iter().flatten() {
            times.push(answered.took);
        }
        times
    }
}

/// Every session sends its requests one after the other, all sessions at once: as fast as they are answered, or `pace` of all
/// together for each second. A request that is due while the one before it waits is timed from when it was due.
pub fn run(address: &str, requests: &Arc<Vec<Vec<Wire>>>, pace: Option<f64>) -> Result<Load> {
    let gate = Arc::new(Barrier::new(THREADS));
    let sessions = f64::from(u32::try_from(requests.len())?);
    let every = pace.map(|pace| Duration::from_secs_f64(sessions / pace));
    // Each thread has the sessions from its own number on, in steps.
    let mut shares: Vec<Vec<_>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (place, share) in (0..requests.len()).zip((0..THREADS).cycle()) {
        if let Some(share) = shares.get_mut(share) {
            share.push((place, connect(address)?));
        }
    }
    let threads: Vec<_> = shares
        .into_iter()
        .map(|share| {
            let (requests, gate) = (requests.clone(), gate.clone());
            std::thread::spawn(move || some_sessions(share, &requests, every, &gate))
        })
        .collect();
    let mut load = Load::default();
    for thread in threads {
        let done = thread
            .join()
            .map_err(|_| anyhow::anyhow!("a thread of the load broke"))?;
        load.sessions.extend(done?);
    }
    Ok(load)
}

/// The sessions of one thread, each with its place among all.
fn some_sessions(
    share: Vec<(usize, TcpStream)>,
    requests: &Arc<Vec<Vec<Wire>>>,
    every: Option<Duration>,
    gate: &Barrier,
) -> Result<Vec<Vec<Answered>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        gate.wait();
        let began = Instant::now();
        let sessions: Vec<_> = share
            .into_iter()
            .map(|(place, connection)| {
                let requests = requests.clone();
                // Spread evenly over the time between two requests of one session.
                let share = f64::from(u32::try_from(place).unwrap_or(0))
                    / f64::from(u32::try_from(requests.len()).unwrap_or(1));
                let pace = every.map(|every| (every.mul_f64(share), every));
                tokio::task::spawn_local(async move {
                    let requests = requests.get(place).map(Vec::as_slice).unwrap_or_default();
                    session(Exchange::over(connection)?, requests, began, pace).await
                })
            })
            .collect();
        let mut answers = Vec::new();
        for session in sessions {
            answers.push(session.await??);
        }
        Ok(answers)
    })
}

/// `pace`: when the first request is due, and how long after it the next.
async fn session(
    mut exchange: Exchange,
    requests: &[Wire],
    began: Instant,
    pace: Option<(Duration, Duration)>,
) -> Result<Vec<Answered>> {
    let mut answers = Vec::with_capacity(requests.len());
    let mut due = pace.map(|(first, _)| began + first);
    for request in requests {
        let mut sent = Instant::now();
        if let (Some(due), Some((_, every))) = (&mut due, pace) {
            if *due > sent {
                tokio::time::sleep_until((*due).into()).await;
                // The runtime's clock ticks once a millisecond: that is no time of the server's.
                sent = Instant::now();
            } else {
                sent = *due;
            }
            *due += every;
        }
        exchange.ask(request).await?;
        let now = Instant::now();
        answers.push(Answered {
            at: now - began,
            took: now - sent,
        });
    }
    Ok(answers)
}

/// A connection that a runtime can take.
fn connect(address: &str) -> Result<TcpStream> {
    let connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    connection.set_nonblocking(true)?;
    Ok(connection)
}

/// A connection on which one request follows the answer to another.
pub struct Exchange {
    connection: tokio::net::TcpStream,
    answer: Vec<u8>,
}

impl Exchange {
    /// A new connection, for the runtime that runs.
    pub fn to(address: &str) -> Result<Self> {
        Self::over(connect(address)?)
    }

    fn over(connection: TcpStream) -> Result<Self> {
        Ok(Self {
            connection: tokio::net::TcpStream::from_std(connection)?,
            answer: Vec::with_capacity(1024),
        })
    }

    /// Sends a request, which must succeed, and takes its whole answer.
    pub async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.connection.write_all(request).await?;
        self.answer.clear();
        while !is_whole(&self.answer)? {
            ensure!(
                self.connection.read_buf(&mut self.answer).await? > 0,
                "the server hung up: {}",
                String::from_utf8_lossy(&self.answer)
            );
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_judged_by_the_time_in_which_all_were_at_it() {
        let answers = |times: &[u64]| {
            let answered = |&at| Answered {
                at: Duration::from_millis(at),
                took: Duration::from_millis(10),
            };
            times.iter().map(answered).collect()
        };
        let load = Load {
            sessions: vec![answers(&[100, 200, 300, 400]), answers(&[400, 800, 1200, 1600])],
        };
        assert!((load.pace() - 5.0 / 0.4).abs() < 1e-9);
        assert!((load.fewest() - 1.0 / 2.5).abs() < 1e-9);
        assert_eq!(load.times().len(), 8);
    }
}
