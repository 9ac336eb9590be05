//! What Backstop costs, beside the bare parts of which it is made, measured in one run on the same machine.
//!
//! Absolute figures tell about the machine. Each figure here stands beside what the operating system, the HTTP library
//! and the database take for the same bytes without Backstop, measured in turns with it, so that whatever else the
//! machine does hits both.
//!
//! | module | noun |
//! |---|---|
//! | [`input`] | the batches |
//! | [`group`] | what is measured together |
//! | [`hook`], [`bytes`], [`restore`], [`start`], [`snapshot`], [`roll_up`] | what a node feels |
//! | [`throughput`], [`sessions`], [`crowd`] | what a server bears |
//! | [`load`], [`load_node`] | many nodes that append at once |
//! | [`large`] | a node with a large database |
//! | [`process`] | the plugin's process, timed |
//! | [`database`] | SQLite and PostgreSQL under a server |
//! | [`bare`], [`bare_server`], [`shared_file`] | the bare parts |
//! | [`samples`], [`report`] | many times as two figures, figures as a table |

pub mod bare;
pub mod bare_server;
pub mod bytes;
pub mod crowd;
pub mod database;
pub mod group;
pub mod hook;
pub mod input;
pub mod large;
pub mod load;
pub mod load_node;
pub mod process;
pub mod report;
pub mod restore;
pub mod roll_up;
pub mod samples;
pub mod sessions;
pub mod shared_file;
pub mod snapshot;
pub mod start;
pub mod throughput;

use crate::{node::Node, shim::Shim};
use anyhow::Result;
use bare_server::BareServer;
use database::{Kind, Store};
use group::Group;
use input::Input;
use report::{Machine, Report};
use std::path::Path;
use throughput::Throughput;

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
    /// Nodes under load.
    pub nodes: usize,
    /// And where flushes are slow and more of them find together.
    pub many_nodes: usize,
    /// Appends of each node in a round.
    pub appends: usize,
    /// Appends of a lone writer.
    pub lone: usize,
    /// Sessions that say nothing.
    pub idle_sessions: usize,
    /// Nodes in the store beside those under load.
    pub stored_nodes: usize,
    /// Records of each of them.
    pub stored_records: usize,
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
        nodes: 64,
        many_nodes: 256,
        appends: 200,
        lone: 2000,
        idle_sessions: 10_000,
        stored_nodes: 100_000,
        stored_records: 20,
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
        nodes: 8,
        many_nodes: 16,
        appends: 10,
        lone: 20,
        idle_sessions: 20,
        stored_nodes: 200,
        stored_records: 3,
        lengths: roll_up::Lengths {
            large: 8 << 20,
            medium: 4 << 20,
        },
    };
}

/// Lets the system write down what was written: what it writes back half a minute later by itself would hold up the flushes that are
/// measured then.
fn settle_disk() {
    nix::unistd::sync();
}

/// Measures these groups. Files that are flushed lie in `scratch`, which should be on a disk. This process, and so all that it
/// starts, runs under `shim`. `progress` hears what is measured next.
pub fn measure(
    effort: Effort,
    groups: &[Group],
    scratch: &Path,
    shim: &Shim,
    mut progress: impl FnMut(&str),
) -> Result<Report> {
    let mut progress = |what: &str| {
        settle_disk();
        progress(what);
    };
    let wants = |wanted: &[Group]| groups.iter().any(|group| wanted.contains(group));
    let machine = Machine::now(scratch)?;
    progress("reading the batches");
    let node = Node::new(6)?;
    let input = Input::load(&node.node_id()?.0, effort.batches)?;
    let bare_server = BareServer::start()?;
    let mut report = Report::new(machine, &input);

    if wants(&[Group::Start, Group::Hook, Group::Bytes, Group::Restore]) {
        let scratch = scratch.join("node");
        let store = Store::start(Kind::Sqlite, &scratch.join("server"), &[])?;
        node.setup(&store.server.url())?;
        if wants(&[Group::Start]) {
            progress("start of the plugin");
            start::first(&node, effort.starts, &mut report)?;
        }
        progress("the hook");
        let sizes = hook::measure(&node, &store, &bare_server, &input, &scratch, &mut report)?;
        if wants(&[Group::Start]) {
            progress("restart of the plugin");
            start::again(&node, effort.starts, &mut report)?;
        }
        if wants(&[Group::Restore]) {
            progress("restore");
            restore::measure(
                &node,
                &store.server,
                &input,
                effort.restores,
                &scratch,
                &mut report,
            )?;
        }
        if wants(&[Group::Bytes]) {
            progress("bytes");
            bytes::measure(&store.server, &input, &sizes, &mut report)?;
        }
    }
    if wants(&[Group::Hook]) {
        progress("the hook, over PostgreSQL");
        let scratch = scratch.join("node over PostgreSQL");
        let node = Node::new(7)?;
        let input = Input::load(&node.node_id()?.0, effort.batches)?;
        let store = Store::start(Kind::Postgres, &scratch.join("server"), &[])?;
        node.setup(&store.server.url())?;
        hook::measure(&node, &store, &bare_server, &input, &scratch, &mut report)?;
    }
    let sizes = input.sealed_sizes()?;
    for kind in Kind::ALL {
        let scratch = scratch.join(kind.name());
        if wants(&[Group::Server, Group::Slow]) {
            progress(&format!("the server under load, over {}", kind.name()));
            let mut throughput = Throughput::start(kind, &scratch, &bare_server, &sizes, effort)?;
            if wants(&[Group::Server]) {
                throughput.measure(&mut report)?;
            }
            if wants(&[Group::Slow]) {
                progress("the same, with slow flushes");
                throughput.measure_slow(shim, &mut report)?;
            }
        }
        if wants(&[Group::Crowd]) {
            progress(&format!("many nodes in {}", kind.name()));
            crowd::measure(kind, &scratch, &sizes, effort, &mut report)?;
        }
    }
    if wants(&[Group::Sessions]) {
        progress("idle sessions");
        let data = scratch.join("idle server");
        sessions::measure(effort.idle_sessions, &sizes, &data, &mut report)?;
    }
    if wants(&[Group::Snapshot]) {
        progress("snapshots");
        snapshot::measure(
            effort.lengths.large,
            effort.restores,
            &bare_server,
            scratch,
            &mut report,
        )?;
    }
    if wants(&[Group::RollUp]) {
        progress("roll-ups");
        roll_up::measure(effort.lengths, effort.restores, &input, scratch, &mut report)?;
    }
    report.machine.load_after = report::load_average()?;
    Ok(report)
}
