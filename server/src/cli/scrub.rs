//! `backstop-server scrub`: an operator's question whether everything is still there.

use super::{place::Place, print, units};
use crate::scrub::Scrubber;
use backstop_protocol::clock::SystemClock;
use clap::Args;
use getrandom::{SysRng, rand_core::UnwrapErr};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(super) struct Scrub {
    #[command(flatten)]
    place: Place,
    /// Read at most so many bytes in a second, on average; 0 for as many as there are.
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = units::bytes)]
    rate: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Something is wrong with what is stored; the report says what.
#[derive(Debug, thiserror::Error)]
#[error("{0} things are wrong; the report above names them")]
pub(super) struct Found(usize);

pub(super) async fn run(scrub: Scrub) -> anyhow::Result<()> {
    let mut rng = UnwrapErr(SysRng);
    let (store, packs) = scrub.place.open(&mut rng).await?;
    let scrubber = Scrubber::new(store.clone(), packs, Arc::new(SystemClock), scrub.rate);
    let report = scrubber.everything().await;
    store.close().await;
    let report = report?;
    print(&if scrub.json {
        format!("{}\n", serde_json::to_string(&report)?)
    } else {
        report.to_string()
    });
    match report.faults.len() {
        0 => Ok(()),
        faults => Err(Found(faults).into()),
    }
}
