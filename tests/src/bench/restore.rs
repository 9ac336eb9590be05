//! The way back, beside nothing but SQLite executing the same statements.

use super::{
    input::Input,
    report::{Bar, Report, Unit},
    samples::Samples,
};
use crate::{node::Node, replayer::Replayer, servers::Server};
use anyhow::Result;
use rusqlite::Connection;
use std::{fs::File, path::Path, time::Instant};

/// Restores from the server, which holds the whole input, and replays the input into a file, in turns.
pub fn measure(
    node: &Node,
    server: &Server,
    input: &Input,
    rounds: usize,
    scratch: &Path,
    report: &mut Report,
) -> Result<()> {
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for round in 0..rounds {
        let to = scratch.join(format!("restored {round}"));
        let began = Instant::now();
        node.restore(&server.url(), &to)?.success()?;
        ours.push(began.elapsed());

        let path = scratch.join(format!("replayed {round}"));
        let began = Instant::now();
        replay(input, &path)?;
        bare.push(began.elapsed());
        std::fs::remove_dir_all(to)?;
        std::fs::remove_file(path)?;
    }
    report.compare(
        "restore (bare: replay by SQLite)",
        Unit::Seconds,
        ours.median(),
        bare.median(),
        Some(Bar::RatioAtMost(1.5)),
    );
    Ok(())
}

/// What SQLite needs not do for a file that nobody else sees before it is complete.
const ALONE: &str = "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=MEMORY; PRAGMA cache_size=-16384;";

/// Each batch in its own transaction, nothing flushed but the whole file at the end.
fn replay(input: &Input, path: &Path) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch(ALONE)?;
    let mut replayer = Replayer::new(connection)?;
    for run in input.runs() {
        replayer.start_run()?;
        for batch in run {
            replayer.apply(&batch.writes)?;
        }
    }
    drop(replayer);
    Ok(File::open(path)?.sync_all()?)
}
