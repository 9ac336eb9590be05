//! One scenario with many seeds: as many as a budget of time allows, on both cores, and every one of them told.

use anyhow::{Context, Result};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How many seeds are run.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// No new seed is begun after this.
    pub time: Duration,
    /// However slow the machine is, so many are run.
    pub least: u64,
    /// However fast it is, no more.
    pub most: u64,
}

/// Runs `scenario` with one seed after another on both cores. `BACKSTOP_SEED` runs one seed alone; a failure names its seed.
#[expect(
    clippy::print_stderr,
    reason = "seeds are told, so that a failure can be repeated"
)]
pub fn many_seeds(budget: Budget, scenario: impl Fn(u64) -> Result<()> + Sync) -> Result<()> {
    if let Ok(seed) = std::env::var("BACKSTOP_SEED") {
        return scenario(seed.parse()?);
    }
    let (next, started) = (AtomicU64::new(0), Instant::now());
    let worker = || -> Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= budget.most || (seed >= budget.least && started.elapsed() > budget.time) {
                return Ok(());
            }
            scenario(seed).with_context(|| format!("seed {seed}"))?;
        }
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    eprintln!(
        "{} seeds in {:?}",
        next.load(Ordering::Relaxed),
        started.elapsed()
    );
    Ok(())
}
