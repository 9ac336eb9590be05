//! What an open session costs that says nothing: memory of the server's process.

use super::{
    load::Exchange,
    load_node::LoadNode,
    process,
    report::{Bar, Report, Unit},
};
use crate::servers::Server;
use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::path::Path;

/// Bytes that one may cost.
const MOST: f64 = 32.0 * 1024.0;
/// Sessions that warm the server up: what it allocates once belongs to none.
const FIRST: usize = 64;

/// So many nodes, each with a session and a connection on which it appended once.
pub fn measure(count: usize, sizes: &[usize], data: &Path, report: &mut Report) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    ensure!(
        most > count as u64 + 500,
        "{count} connections need a higher limit of open files (ulimit -Hn), which is {most}"
    );
    // Openings of strangers are limited; these come all at once.
    let server = Server::start_on_with(data, &["--anonymous-rate", "1000000"])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let open = |from: usize, count: usize| -> Result<Vec<Exchange>> {
        let nodes = LoadNode::open_all(&server, from, count)?;
        runtime.block_on(async {
            let mut connections = Vec::with_capacity(nodes.len());
            for mut node in nodes {
                let mut connection = Exchange::to(server.address())?;
                connection.ask(&node.request(sizes)?).await?;
                connections.push(connection);
            }
            Ok(connections)
        })
    };
    let first = open(1, FIRST)?;
    let (before, _) = process::memory(server.pid())?;
    let crowd = open(1 + FIRST, count)?;
    let (after, _) = process::memory(server.pid())?;
    let float = |bytes: u64| u32::try_from(bytes).map_or(f64::MAX, f64::from);
    report.ours(
        &format!("sessions: memory of each of {count} that are idle"),
        Unit::Bytes,
        float(after.saturating_sub(before)) / float(count as u64),
        Some(Bar::AtMost(MOST)),
    );
    drop((first, crowd));
    Ok(())
}
