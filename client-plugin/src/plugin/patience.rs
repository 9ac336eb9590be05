//! How long the hook waits for a server, and what it says meanwhile (outage policy `stall`).

use super::{
    halt::Halted,
    stdio::{self, Level},
};
use crate::{directory::OutageConfig, node::Node, random::SharedRng, remote::RemoteError};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The first pause between two attempts; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After how long it says that too few servers have answered.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// Retries calls until they succeed, are refused for good, or the operator's limit is over.
#[derive(Clone)]
pub(super) struct Patience {
    /// The operator's limits.
    pub(super) outage: OutageConfig,
    /// Where to say what is going on.
    /// Randomness for pauses, so that a thousand nodes do not come back in the same second.
    pub(super) rng: SharedRng,
}

impl Patience {
    /// As the node's operator chose.
    pub(super) fn of(node: &Node) -> Self {
        Self {
            outage: node.config.outage,
            rng: node.ambient.rng.clone(),
        }
    }

    /// Runs `call` until it succeeds. `what` names it for the log; `network_dir` the node for the advice.
    pub(super) async fn until_done<T>(
        &self,
        what: &str,
        network_dir: &Path,
        call: impl AsyncFnMut() -> Result<T, RemoteError>,
    ) -> Result<T, Halted> {
        self.until_done_or_stuck(what, network_dir, &AtomicBool::new(false), call)
            .await
    }

    /// The same for something long: the limit counts from when `progressed` was last set. `what` names it for the log; `network_dir` the node for the advice.
    pub(super) async fn until_done_or_stuck<T>(
        &self,
        what: &str,
        network_dir: &Path,
        progressed: &AtomicBool,
        mut call: impl AsyncFnMut() -> Result<T, RemoteError>,
    ) -> Result<T, Halted> {
        let mut started = Instant::now();
        let limit = Duration::from_secs(self.outage.halt_after_seconds);
        let mut pause = FIRST_PAUSE;
        let mut failures = 0_u32;
        loop {
            let error = match call().await {
                Ok(done) => {
                    if failures > 0 {
                        let waited = started.elapsed().as_secs_f32();
                        stdio::log(
                            Level::Info,
                            &format!("{what}: done after {waited:.1} s; the node goes on"),
                        );
                    }
                    return Ok(done);
                }
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(Halted::refused(&error, network_dir)),
            };
            failures += 1;
            if progressed.swap(false, Ordering::Relaxed) {
                (started, pause) = (Instant::now(), FIRST_PAUSE);
            }
            let waited = started.elapsed();
            if waited + pause > limit {
                return Err(Halted::waited(waited.as_secs(), &error));
            }
            let left = limit.saturating_sub(waited).as_secs();
            stdio::log(
                Level::Warn,
                &format!(
                    "{what}: {error}. The node waits, nothing is lost; attempt {failures}, halting in {left} s"
                ),
            );
            tokio::time::sleep(self.jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until `reached` is over, which goes on meanwhile, and says what it lacks.
    pub(super) async fn until_reached(
        &self,
        what: &str,
        network_dir: &Path,
        reached: impl Future<Output = Result<(), RemoteError>>,
        lacking: impl Fn() -> RemoteError,
    ) -> Result<(), Halted> {
        let started = Instant::now();
        let limit = Duration::from_secs(self.outage.halt_after_seconds);
        let mut pause = FIRST_WORD;
        let mut said = false;
        let mut reached = std::pin::pin!(reached);
        loop {
            let rest = limit.saturating_sub(started.elapsed());
            tokio::select! {
                biased;
                done = &mut reached => {
                    if said {
                        let waited = started.elapsed().as_secs_f32();
                        stdio::log(
                            Level::Info,
                            &format!("{what}: done after {waited:.1} s; the node goes on"),
                        );
                    }
                    return done.map_err(|error| Halted::refused(&error, network_dir));
                }
                () = tokio::time::sleep(pause.min(rest)) => {}
            }
            let waited = started.elapsed();
            let error = lacking();
            if waited >= limit {
                return Err(Halted::waited(waited.as_secs(), &error));
            }
            said = true;
            let left = limit.saturating_sub(waited).as_secs();
            stdio::log(
                Level::Warn,
                &format!("{what}: {error}. The node waits, nothing is lost; halting in {left} s"),
            );
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Between half of `pause` and all of it.
    fn jittered(&self, pause: Duration) -> Duration {
        let random = u32::from_be_bytes(self.rng.array());
        let half = pause / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}
