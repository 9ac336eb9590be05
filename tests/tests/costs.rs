//! What an append costs, counted: flushes, statements, allocations, instructions, bytes. No clock decides here. Where programs
//! are counted, they are those of this build: what counts are held to is what such a build takes, and a little more.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    bench::{
        input::{Batch, Input},
        load,
        load_node::LoadNode,
        process::PluginProcess,
    },
    binaries::binary,
    callgrind::Callgrind,
    cluster::Cluster,
    fixtures::Fixtures,
    node::Node,
    servers::Server,
    shim::{Count, Counts, Shim},
};
use std::{fs::File, process::Command, sync::Arc, time::Duration};
use tempfile::TempDir;

/// Appends of a lone writer, or of each of several.
const APPENDS: usize = 100;
/// Nodes at once.
const NODES: usize = 64;
/// Batches that go through the hook; twice as many, to take the difference.
const BATCHES: usize = 100;
/// With flushes so slow, whatever this machine is busy with, all nodes wait for the next one together.
const SLOW: Duration = Duration::from_millis(20);

/// As many in a thousand appends.
fn in_a_thousand(count: u64, appends: usize) -> u64 {
    count * 1000 / appends as u64
}

/// A server whose work is counted.
struct Counted {
    shim: Shim,
    server: Server,
    cluster: Option<(Cluster, String)>,
    sizes: Vec<usize>,
    _dir: TempDir,
}

impl Counted {
    fn over_sqlite() -> Result<Self> {
        Self::start(Shim::compile(Count::Allocations)?, None)
    }

    fn over_postgresql() -> Result<Self> {
        let shim = Shim::compile(Count::Flushes)?;
        let statements = "shared_preload_libraries = 'pg_stat_statements'";
        let cluster = Cluster::start_with(statements, shim.variables());
        let database = cluster.database();
        cluster.sql(&database, "CREATE EXTENSION pg_stat_statements");
        Self::start(shim, Some((cluster, database)))
    }

    fn start(shim: Shim, cluster: Option<(Cluster, String)>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(binary("backstop-server")?);
        command.envs(shim.variables());
        let url = cluster.as_ref().map(|(cluster, database)| cluster.url(database));
        let arguments: Vec<_> = url.iter().flat_map(|url| ["--database", url]).collect();
        let server = Server::start_as(command, &dir.path().join("data"), &arguments)?;
        Ok(Self {
            shim,
            server,
            cluster,
            sizes: input(BATCHES)?.sealed_sizes()?,
            _dir: dir,
        })
    }

    /// What `nodes` do that append at once, each [`APPENDS`] times, beyond what they did for a tenth of it.
    fn append(&self, nodes: usize) -> Result<Counts> {
        let mut nodes = LoadNode::open_all(&self.server, 1, nodes)?;
        let mut append = |count| -> Result<Counts> {
            let requests: Result<Vec<_>> = nodes
                .iter_mut()
                .map(|node| node.requests(&self.sizes, count))
                .collect();
            load::run(self.server.address(), &Arc::new(requests?), None)?;
            self.shim.counts()
        };
        // Whatever is made once, as statements that are prepared.
        let before = append(APPENDS / 10)?;
        if let Some((cluster, database)) = &self.cluster {
            cluster.sql(database, "SELECT pg_stat_statements_reset()");
        }
        let after = append(APPENDS)?;
        Ok(Counts {
            flushes: after.flushes - before.flushes,
            allocations: after.allocations - before.allocations,
            allocated: after.allocated - before.allocated,
        })
    }

    /// Statements that PostgreSQL carried out for the last appends.
    fn statements(&self) -> Result<u64> {
        let (cluster, database) = self.cluster.as_ref().context("no PostgreSQL")?;
        let sum = "SELECT sum(calls) FROM pg_stat_statements JOIN pg_database ON oid = dbid WHERE datname = current_database()
            AND query NOT LIKE '%pg_stat_statements%'";
        Ok(cluster.sql(database, sum).parse()?)
    }
}

fn input(batches: usize) -> Result<Input> {
    Input::load(&Node::new(6)?.node_id()?.0, Some(batches))
}

#[test]
fn the_records_of_a_real_node_take_a_seventh_of_its_sql() -> Result<()> {
    let input = Input::load(&Node::new(6)?.node_id()?.0, None)?;
    let sealed: usize = input.sealed_sizes()?.iter().sum();
    let per_mille = sealed as u64 * 1000 / input.sql_bytes();
    println!("{per_mille} of a thousand bytes of {}", input.source);
    // The simulated one writes so little in a batch that half of a record is its seal and its padding.
    let most = if Fixtures::find()?.is_some() { 140 } else { 550 };
    ensure!(per_mille <= most, "{per_mille} bytes for a thousand of SQL");
    Ok(())
}

#[test]
fn a_lone_writers_append_is_flushed_once() -> Result<()> {
    let counted = Counted::over_sqlite()?;
    let flushes = in_a_thousand(counted.append(1)?.flushes, APPENDS);
    println!("SQLite: {flushes} flushes for a thousand appends");
    // Every 512 appends SQLite's own log goes into the file, by flushes of their own.
    ensure!(
        (1000..1100).contains(&flushes),
        "{flushes} flushes for a thousand appends"
    );
    Ok(())
}

#[test]
fn a_lone_writers_append_is_flushed_once_by_postgresql_and_takes_few_statements() -> Result<()> {
    let counted = Counted::over_postgresql()?;
    let flushes = in_a_thousand(counted.append(1)?.flushes, APPENDS);
    let statements = in_a_thousand(counted.statements()?, APPENDS);
    println!("PostgreSQL: {flushes} flushes, {statements} statements for a thousand appends");
    ensure!(
        (1000..1100).contains(&flushes),
        "{flushes} flushes for a thousand appends"
    );
    ensure!(
        statements <= 6100,
        "{statements} statements for a thousand appends"
    );
    Ok(())
}

#[test]
fn appends_of_many_nodes_share_flushes() -> Result<()> {
    let counted = Counted::over_sqlite()?;
    counted.shim.delay(SLOW)?;
    let flushes = in_a_thousand(counted.append(NODES)?.flushes, APPENDS * NODES);
    println!("SQLite: {flushes} flushes for a thousand appends of {NODES} nodes");
    ensure!(flushes <= 60, "{flushes} flushes for a thousand appends");
    Ok(())
}

#[test]
fn appends_of_many_nodes_share_flushes_and_statements_of_postgresql() -> Result<()> {
    let counted = Counted::over_postgresql()?;
    counted.shim.delay(SLOW)?;
    let flushes = in_a_thousand(counted.append(NODES)?.flushes, APPENDS * NODES);
    let statements = in_a_thousand(counted.statements()?, APPENDS * NODES);
    println!(
        "PostgreSQL: {flushes} flushes, {statements} statements for a thousand appends of {NODES} nodes"
    );
    ensure!(flushes <= 60, "{flushes} flushes for a thousand appends");
    ensure!(
        statements <= 220,
        "{statements} statements for a thousand appends"
    );
    Ok(())
}

#[test]
fn an_append_allocates_little_in_the_server() -> Result<()> {
    let counted = Counted::over_sqlite()?;
    let counts = counted.append(1)?;
    let (pieces, bytes) = (
        counts.allocations / APPENDS as u64,
        counts.allocated / APPENDS as u64,
    );
    println!("server: {pieces} allocations of {bytes} bytes for each append");
    ensure!(pieces <= 80, "{pieces} allocations for each append");
    ensure!(bytes <= 27_000, "{bytes} bytes for each append");
    Ok(())
}

/// A node that was set up, and the server that it writes to.
struct Hook {
    node: Node,
    _server: Server,
}

impl Hook {
    fn new() -> Result<Self> {
        let (node, server) = (Node::new(6)?, Server::start()?);
        node.setup(&server.url())?;
        // Its work is done beside the hook and at its own pace.
        let config = node.network_dir().join("backstop/config.toml");
        let text = std::fs::read_to_string(&config)?;
        ensure!(text.contains("keep = true"), "{text}");
        std::fs::write(config, text.replace("keep = true", "keep = false"))?;
        File::create(node.database())?;
        Ok(Self {
            node,
            _server: server,
        })
    }

    fn start(&self, command: Command) -> Result<PluginProcess> {
        Ok(PluginProcess::start_as(command, &self.node)?.0)
    }
}

fn send(plugin: &mut PluginProcess, batches: &[Batch]) -> Result<()> {
    for batch in batches {
        plugin.db_write(batch.data_version, &batch.writes)?;
    }
    Ok(())
}

/// The batches of the first start, as many as asked for.
fn batches(count: usize) -> Result<Vec<Batch>> {
    let input = input(count)?;
    let run = input.runs().next().context("no batches")?;
    // A simulated node begins with all batches of its first start, however few are asked for.
    Ok(run.get(..count).context("the first start has too few")?.to_vec())
}

#[test]
fn a_batch_allocates_little_in_the_plugin() -> Result<()> {
    let (shim, hook) = (Shim::compile(Count::Allocations)?, Hook::new()?);
    let mut command = Command::new(binary("backstop")?);
    command.envs(shim.variables());
    let mut plugin = hook.start(command)?;
    let batches = batches(2 * BATCHES)?;
    let (first, second) = batches.split_at(BATCHES);
    send(&mut plugin, first)?;
    let before = shim.counts()?.allocations;
    send(&mut plugin, second)?;
    let each = (shim.counts()?.allocations - before) / BATCHES as u64;
    println!("plugin: {each} allocations for each batch");
    ensure!(each <= 110, "{each} allocations for each batch");
    Ok(())
}

#[test]
fn a_batch_takes_few_instructions_in_the_plugin() -> Result<()> {
    let work = |count| -> Result<u64> {
        let (hook, dir) = (Hook::new()?, tempfile::tempdir()?);
        let callgrind = Callgrind::new(dir.path());
        let mut plugin = hook.start(callgrind.command(&binary("backstop")?))?;
        send(&mut plugin, &batches(count)?)?;
        plugin.stop()?;
        callgrind.instructions()
    };
    let each = (work(2 * BATCHES)? - work(BATCHES)?) / BATCHES as u64;
    println!("plugin: {each} instructions for each batch");
    ensure!(each <= 1_950_000, "{each} instructions for each batch");
    Ok(())
}

#[test]
fn an_append_takes_few_instructions_and_statements_in_the_server() -> Result<()> {
    let sizes = input(BATCHES)?.sealed_sizes()?;
    let work = |count| -> Result<(u64, u64)> {
        let dir = tempfile::tempdir()?;
        let callgrind = Callgrind::new(dir.path());
        let command = callgrind.command(&binary("backstop-server")?);
        let mut server = Server::start_as(command, &dir.path().join("data"), &[])?;
        let mut nodes = LoadNode::open_all(&server, 1, 1)?;
        let node = nodes.first_mut().context("a node")?;
        let requests = Arc::new(vec![node.requests(&sizes, count)?]);
        load::run(server.address(), &requests, None)?;
        server.stop()?;
        Ok((callgrind.instructions()?, callgrind.calls("sqlite3_step")?))
    };
    let (once, twice) = (work(APPENDS)?, work(2 * APPENDS)?);
    let each = (twice.0 - once.0) / APPENDS as u64;
    let steps = in_a_thousand(twice.1 - once.1, APPENDS);
    println!("server: {each} instructions for each append, {steps} steps of SQL for a thousand");
    ensure!(each <= 590_000, "{each} instructions for each append");
    ensure!(steps <= 6100, "{steps} steps of SQL for a thousand appends");
    Ok(())
}
