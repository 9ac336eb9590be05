//! Time inside the hook, over the whole input, in turns with the bare parts.

use super::{
    bare::Bare,
    bare_server::BareServer,
    database::{Log, Store},
    input::Input,
    process::PluginProcess,
    report::{Bar, Report, Unit},
    samples::Samples,
};
use crate::{node::Node, replayer::Replayer};
use anyhow::Result;
use backstop_protocol::record::RECORD_MIN;
use rusqlite::Connection;
use std::{fs::File, path::Path};

#[derive(Default)]
struct Times {
    hook: Samples,
    flush: Samples,
    post: Samples,
    insert: Samples,
}

/// Backs the input up from the first batch, the way a new node does. Returns the length of every record.
pub fn measure(
    node: &Node,
    store: &Store,
    bare_server: &BareServer,
    input: &Input,
    scratch: &Path,
    report: &mut Report,
) -> Result<Vec<usize>> {
    let mut bare = Bare::new(store.kind, scratch, bare_server)?;
    // Before the first batch lightningd's file is there and empty.
    File::create(node.database())?;
    let mut wallet = Replayer::new(Connection::open(node.database())?)?;
    let mut log = Log::open(store)?;
    let (mut times, mut sizes) = (Times::default(), Vec::new());
    let (mut memory, mut most) = (0, 0);
    // Until something is sealed the bare parts get as many bytes as a small record has.
    let mut sealed = vec![0; RECORD_MIN];
    for run in input.runs() {
        wallet.start_run()?;
        let (mut plugin, _) = PluginProcess::start(node)?;
        for batch in run {
            // Whoever comes first finds colder caches: that goes round.
            for turn in 0..4 {
                match (sizes.len() + turn) % 4 {
                    0 => times
                        .hook
                        .push(plugin.db_write(batch.data_version, &batch.writes)?),
                    1 => times.flush.push(bare.flush(&sealed)?),
                    2 => times.post.push(bare.post(&sealed)?),
                    _ => times.insert.push(bare.insert(&sealed)?),
                }
            }
            // Only now lightningd commits.
            wallet.apply(&batch.writes)?;
            sealed = log.newest()?;
            sizes.push(sealed.len());
        }
        let now = plugin.memory()?;
        (memory, most) = (now.0, most.max(now.1));
        plugin.stop()?;
    }
    let kind = store.kind.name();
    times.report(kind, report);
    let float = |bytes: u64| u32::try_from(bytes).map_or(f64::MAX, f64::from);
    report.ours(
        &format!("plugin ({kind}): memory after the last batch"),
        Unit::Bytes,
        float(memory),
        None,
    );
    report.ours(
        &format!("plugin ({kind}): most memory"),
        Unit::Bytes,
        float(most),
        Some(Bar::AtMost(f64::from(30 << 20))),
    );
    Ok(sizes)
}

impl Times {
    fn report(&self, kind: &str, report: &mut Report) {
        let (ours, bare) = (&self.hook, self.post.plus(&self.insert));
        report.compare(
            &format!("hook ({kind}): median (bare: call + insert)"),
            Unit::Seconds,
            ours.median(),
            bare.median(),
            Some(Bar::RatioAtMost(1.5)),
        );
        report.compare(
            &format!("hook ({kind}): p99"),
            Unit::Seconds,
            ours.p99(),
            bare.p99(),
            Some(Bar::RatioAtMost(2.0)),
        );
        let parts = [
            ("HTTP call", &self.post),
            ("durable insert and update", &self.insert),
            ("append and fdatasync", &self.flush),
        ];
        for (name, times) in parts {
            report.bare(&format!("  {name}: median"), Unit::Seconds, times.median());
            report.bare(&format!("  {name}: p99"), Unit::Seconds, times.p99());
        }
    }
}
