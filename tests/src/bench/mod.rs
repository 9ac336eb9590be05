//! What Backstop costs, beside the bare parts of which it is made, measured in one run on the same machine.
//!
//! Absolute figures tell about the machine. Each figure here stands beside what the operating system, the HTTP library
//! and the database take for the same bytes without Backstop, measured in turns with it, so that whatever else the
//! machine does hits both.
//!
//! | module | noun |
//! |---|---|
//! | [`input`] | the batches |
//! | [`hook`], [`bytes`], [`restore`], [`start`], [`load`], [`snapshot`], [`roll_up`] | what is measured |
//! | [`large`] | a node with a large database |
//! | [`process`] | the plugin's process, timed |
//! | [`bare`], [`bare_server`] | the bare parts |
//! | [`samples`], [`report`] | many times as two figures, figures as a table |

pub mod bare;
pub mod bare_server;
pub mod bytes;
pub mod hook;
pub mod input;
pub mod large;
pub mod load;
pub mod process;
pub mod report;
pub mod restore;
pub mod roll_up;
pub mod samples;
pub mod snapshot;
pub mod start;

use crate::{node::Node, servers::Server};
use anyhow::{Context, Result};
use bare_server::BareServer;
use input::Input;
use report::{Machine, Report};
use std::path::Path;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Batches that go through the hook; `None`: the whole input.
    pub batches: Option<usize>,
    /// Starts of the plugin.
    pub starts: usize,
    /// Restores.
    pub restores: usize,
    /// Rounds of load.
    pub rounds: usize,
    /// Sessions under load.
    pub sessions: u8,
    /// Appends of each session in a round.
    pub appends: usize,
    /// Lengths of the databases that are rolled up.
    pub lengths: roll_up::Lengths,
}

impl Effort {
    /// What figures worth quoting take.
    pub const FULL: Self = Self {
        batches: None,
        starts: 20,
        restores: 3,
        rounds: 5,
        sessions: 64,
        appends: 200,
        lengths: roll_up::Lengths {
            large: 1 << 30,
            medium: 316_000_000,
        },
    };
    /// Enough to see that everything runs.
    pub const QUICK: Self = Self {
        batches: Some(120),
        starts: 2,
        restores: 1,
        rounds: 1,
        sessions: 8,
        appends: 10,
        lengths: roll_up::Lengths {
            large: 8 << 20,
            medium: 4 << 20,
        },
    };
}

/// Measures everything. Files that are flushed lie in `scratch`, which should be on a disk. `progress` hears what is
/// measured next.
pub fn measure(effort: Effort, scratch: &Path, mut progress: impl FnMut(&str)) -> Result<Report> {
    let machine = Machine::now()?;
    progress("reading the batches");
    let node = Node::new(6)?;
    let input = Input::load(&node.node_id()?.0, effort.batches)?;
    let bare_server = BareServer::start()?;
    let data = scratch.join("server");
    let server = Server::start_on(&data)?;
    node.setup(&server.url())?;
    let mut report = Report::new(machine, &input);

    progress("start of the plugin");
    start::first(&node, effort.starts, &mut report)?;
    progress("the hook");
    let sizes = hook::measure(&node, &server, &bare_server, &input, scratch, &mut report)?;
    progress("restart of the plugin");
    start::again(&node, effort.starts, &mut report)?;
    progress("restore");
    restore::measure(&node, &server, &input, effort.restores, scratch, &mut report)?;
    progress("bytes");
    bytes::measure(&server, &input, &sizes, &mut report)?;
    drop(server);
    progress("the server under load");
    let loaded = Server::start_on(&scratch.join("loaded server")).context("the second server")?;
    load::measure(&loaded, &bare_server, &sizes, effort, &mut report)?;
    drop(loaded);
    progress("snapshots");
    snapshot::measure(
        effort.lengths.large,
        effort.restores,
        &bare_server,
        scratch,
        &mut report,
    )?;
    progress("roll-ups");
    roll_up::measure(effort.lengths, effort.restores, &input, scratch, &mut report)?;
    report.machine.load_after = report::load_average()?;
    Ok(report)
}
