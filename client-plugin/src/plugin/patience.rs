//! How long the hook waits for a server, and what it says meanwhile (SPEC 8.10).

use super::{
    halt::Halted,
    stdio::{self, Level},
};
use crate::{node::Node, random::SharedRng, remote::RemoteError};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// The first pause between two attempts; each is twice the one before.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After how long it says that too few servers have answered.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// Why it waits no longer.
#[derive(Debug)]
pub(super) enum GaveUp {
    /// Time will not heal it.
    Refused(Halted),
    /// The limit is over; this was wrong last.
    Over(RemoteError),
}

impl GaveUp {
    /// As the end of the run.
    pub(super) fn halted(self, limit: Duration) -> Halted {
        match self {
            Self::Refused(halted) => halted,
            Self::Over(error) => Halted::waited(limit.as_secs(), &error),
        }
    }
}

/// Retries calls until they succeed, are refused for good, or the operator's limit is over.
#[derive(Clone)]
pub(super) struct Patience {
    /// How long in all.
    pub(super) limit: Duration,
    /// What comes then, for the log.
    pub(super) then: &'static str,
    /// Randomness for pauses, so that a thousand nodes do not come back in the same second.
    pub(super) rng: SharedRng,
}

impl Patience {
    /// As the node's operator chose.
    pub(super) fn of(node: &Node) -> Self {
        Self {
            limit: Duration::from_secs(node.config.outage.halt_after_seconds),
            then: "halting",
            rng: node.ambient.rng.clone(),
        }
    }

    /// As long as the hook waits before the spool takes an update.
    pub(super) fn before_spool(&self, limit: Duration) -> Self {
        Self {
            limit,
            then: "going on against the spool",
            rng: self.rng.clone(),
        }
    }

    /// What is left of it after so long.
    pub(super) fn after(&self, waited: Duration) -> Self {
        Self {
            limit: self.limit.saturating_sub(waited),
            ..self.clone()
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

    /// The same where what comes after the limit is not a halt: an attempt that hangs is cut off there.
    pub(super) async fn until_done_in_time<T>(
        &self,
        what: &str,
        network_dir: &Path,
        call: impl AsyncFnMut() -> Result<T, RemoteError>,
    ) -> Result<T, GaveUp> {
        let over = Instant::now() + self.limit;
        let progressed = AtomicBool::new(false);
        let attempts = self.attempts(what, network_dir, &progressed, call);
        match tokio::time::timeout_at(over, attempts).await {
            Ok(done) => done,
            Err(_) => Err(GaveUp::Over(RemoteError::Unreachable {
                url: "the server".to_owned(),
                reason: format!("silence for {:.1} s", self.limit.as_secs_f32()),
            })),
        }
    }

    /// The same for something long: the limit counts from when `progressed` was last set. `what` names it for the log; `network_dir` the node for the advice.
    pub(super) async fn until_done_or_stuck<T>(
        &self,
        what: &str,
        network_dir: &Path,
        progressed: &AtomicBool,
        call: impl AsyncFnMut() -> Result<T, RemoteError>,
    ) -> Result<T, Halted> {
        let done = self.attempts(what, network_dir, progressed, call).await;
        done.map_err(|gave_up| gave_up.halted(self.limit))
    }

    async fn attempts<T>(
        &self,
        what: &str,
        network_dir: &Path,
        progressed: &AtomicBool,
        mut call: impl AsyncFnMut() -> Result<T, RemoteError>,
    ) -> Result<T, GaveUp> {
        let mut started = Instant::now();
        let limit = self.limit;
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
                Err(error) => return Err(GaveUp::Refused(Halted::refused(&error, network_dir))),
            };
            failures += 1;
            if progressed.swap(false, Ordering::Relaxed) {
                (started, pause) = (Instant::now(), FIRST_PAUSE);
            }
            let waited = started.elapsed();
            if waited + pause > limit {
                return Err(GaveUp::Over(error));
            }
            let left = limit.saturating_sub(waited).as_secs();
            stdio::log(
                Level::Warn,
                &format!(
                    "{what}: {error}. The node waits, nothing is lost; attempt {failures}, {} in {left} s",
                    self.then
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
        let done = self
            .until_reached_in_time(what, network_dir, reached, lacking)
            .await;
        done.map_err(|gave_up| gave_up.halted(self.limit))
    }

    /// The same where what comes after the limit is not a halt.
    pub(super) async fn until_reached_in_time(
        &self,
        what: &str,
        network_dir: &Path,
        reached: impl Future<Output = Result<(), RemoteError>>,
        lacking: impl Fn() -> RemoteError,
    ) -> Result<(), GaveUp> {
        let started = Instant::now();
        let limit = self.limit;
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
                    return done.map_err(|error| GaveUp::Refused(Halted::refused(&error, network_dir)));
                }
                () = tokio::time::sleep(pause.min(rest)) => {}
            }
            let waited = started.elapsed();
            let error = lacking();
            if waited >= limit {
                return Err(GaveUp::Over(error));
            }
            said = true;
            let left = limit.saturating_sub(waited).as_secs();
            stdio::log(
                Level::Warn,
                &format!(
                    "{what}: {error}. The node waits, nothing is lost; {} in {left} s",
                    self.then
                ),
            );
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Between half of `pause` and all of it.
    pub(super) fn jittered(&self, pause: Duration) -> Duration {
        let random = u32::from_be_bytes(self.rng.array());
        let half = pause / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, future::pending};

    fn patience(limit: Duration) -> Patience {
        Patience {
            limit,
            then: "halting",
            rng: SharedRng::system(),
        }
    }

    fn silent() -> RemoteError {
        RemoteError::Unreachable {
            url: "http://server".to_owned(),
            reason: "silence".to_owned(),
        }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(work)
    }

    #[test]
    fn pauses_differ_by_chance_and_never_by_more_than_half() {
        let (patience, pause) = (patience(Duration::ZERO), Duration::from_secs(4));
        let drawn: Vec<Duration> = (0..200).map(|_| patience.jittered(pause)).collect();
        assert!(drawn.iter().all(|drawn| (pause / 2..=pause).contains(drawn)));
        assert!(drawn.windows(2).any(|two| two[0] != two[1]));
    }

    #[test]
    fn what_fails_is_tried_again_with_growing_pauses_until_the_limit_and_then_said() {
        let tries = Cell::new(0);
        let call = async || -> Result<(), RemoteError> {
            tries.set(tries.get() + 1);
            Err(silent())
        };
        let patience = patience(FIRST_PAUSE * 10);
        let halted = block_on(patience.until_done("work", Path::new("/n/regtest"), call)).unwrap_err();
        assert!(halted.to_string().contains("http://server"), "{halted}");
        // Pauses of 50 to 100, 100 to 200, 200 to 400 ms, and no fourth that would end behind the limit.
        assert!((2..=5).contains(&tries.get()), "{}", tries.get());
    }

    #[test]
    fn what_succeeds_at_last_is_done_and_what_is_refused_is_not_tried_again() {
        let tries = Cell::new(0);
        let call = async || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(silent()) } else { Ok(7) }
        };
        let patience = patience(Duration::from_mins(1));
        assert_eq!(
            block_on(patience.until_done("work", Path::new("/n/regtest"), call)),
            Ok(7)
        );
        tries.set(0);
        let refused = async || -> Result<(), RemoteError> {
            tries.set(tries.get() + 1);
            Err(RemoteError::Key)
        };
        let gave_up = block_on(patience.until_done_in_time("work", Path::new("/n/regtest"), refused));
        assert!(matches!(gave_up, Err(GaveUp::Refused(_))));
        assert_eq!(tries.get(), 1);
    }

    #[test]
    fn an_attempt_that_hangs_is_cut_off_at_the_limit() {
        let gave_up = block_on(patience(Duration::from_millis(20)).until_done_in_time::<()>(
            "work",
            Path::new("/n/regtest"),
            async || pending().await,
        ));
        assert!(matches!(gave_up, Err(GaveUp::Over(_))));
        let gave_up = block_on(patience(Duration::from_millis(20)).until_reached_in_time(
            "work",
            Path::new("/n/regtest"),
            pending(),
            silent,
        ));
        assert!(matches!(gave_up, Err(GaveUp::Over(_))));
    }
}
