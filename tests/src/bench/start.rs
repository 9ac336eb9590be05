//! How soon the plugin is there, and how large both programs are.

use super::{
    process::PluginProcess,
    report::{Bar, Report, Unit},
    samples::Samples,
};
use crate::{binaries, node::Node};
use anyhow::Result;

const BAR: Option<Bar> = Some(Bar::AtMost(0.020));

/// Sizes of the programs, and starts of a node that was set up and never ran.
pub fn first(node: &Node, starts: usize, report: &mut Report) -> Result<()> {
    for name in ["backstop", "backstop-server"] {
        let len = std::fs::metadata(binaries::binary(name)?)?.len();
        report.ours(
            &format!("size of {name}"),
            Unit::Bytes,
            u32::try_from(len).map_or(f64::MAX, f64::from),
            Some(Bar::AtMost(f64::from(20 << 20))),
        );
    }
    let times = times(node, starts)?;
    report.ours(
        "plugin: first start to manifest, median",
        Unit::Seconds,
        times.median(),
        BAR,
    );
    report.ours(
        "plugin: first start to manifest, p99",
        Unit::Seconds,
        times.p99(),
        None,
    );
    Ok(())
}

/// Starts of a node that ran before, where the plugin looks whether the database lost anything.
pub fn again(node: &Node, starts: usize, report: &mut Report) -> Result<()> {
    let times = times(node, starts)?;
    report.ours(
        "plugin: restart to manifest, median",
        Unit::Seconds,
        times.median(),
        BAR,
    );
    report.ours(
        "plugin: restart to manifest, p99",
        Unit::Seconds,
        times.p99(),
        None,
    );
    Ok(())
}

fn times(node: &Node, starts: usize) -> Result<Samples> {
    let mut times = Samples::default();
    for _ in 0..starts {
        // Dropped, it is killed: it has not written anything yet.
        times.push(PluginProcess::start(node)?.1);
    }
    Ok(times)
}
