//! What the number of nodes in the store and the length of their histories cost an append.

use super::{
    Effort,
    database::{Kind, Store},
    load,
    load_node::LoadNode,
    report::{Bar, Report, Unit},
    samples::Samples,
};
use anyhow::{Context, Result};
use std::{fmt::Write as _, path::Path, sync::Arc};

/// Nodes in the store that many others are compared with.
const FEW: usize = 100;

/// Appends of some nodes, beside those of as many in a store where nearly all others are missing.
pub fn measure(
    kind: Kind,
    scratch: &Path,
    sizes: &[usize],
    effort: Effort,
    report: &mut Report,
) -> Result<()> {
    let many = effort.stored_nodes;
    let mut few = Crowd::new(kind, &scratch.join("few nodes"), FEW.min(many), sizes, effort)?;
    let mut all = Crowd::new(kind, &scratch.join("many nodes"), many, sizes, effort)?;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..effort.rounds {
        bare.push_value(few.pace(sizes, effort)?);
        ours.push_value(all.pace(sizes, effort)?);
    }
    report.compare(
        &format!(
            "crowd ({}): {} nodes of {many}, {} records each (bare: of {FEW})",
            kind.name(),
            effort.nodes,
            effort.stored_records
        ),
        Unit::PerSecond,
        ours.median(),
        bare.median(),
        Some(Bar::RatioAtLeast(0.8)),
    );
    Ok(())
}

/// A store with many nodes, and those of them that append.
struct Crowd {
    store: Store,
    nodes: Vec<LoadNode>,
}

impl Crowd {
    /// `count` nodes beside those that append. They are copies of one node of which the server itself took a history, made in
    /// the database, in the order in which the records of so many nodes arrive.
    fn new(kind: Kind, data: &Path, count: usize, sizes: &[usize], effort: Effort) -> Result<Self> {
        let mut store = Store::start(kind, data, &[]).context("a crowded server")?;
        let mut nodes = LoadNode::open_all(&store.server, 1, effort.nodes + 1)?;
        let mut first = nodes.pop().context("no node")?;
        let history = first.requests(sizes, effort.stored_records)?;
        load::run(store.server.address(), &Arc::new(vec![history]), None)?;
        store.server.stop()?;
        store.execute(&copies(kind, count, effort.stored_records))?;
        store.server.restart()?;
        Ok(Self { store, nodes })
    }

    fn pace(&mut self, sizes: &[usize], effort: Effort) -> Result<f64> {
        let requests = self
            .nodes
            .iter_mut()
            .map(|node| node.requests(sizes, effort.appends));
        let requests = Arc::new(requests.collect::<Result<Vec<_>>>()?);
        Ok(load::run(self.store.server.address(), &requests, None)?.pace())
    }
}

/// The statements that copy the one node that has `records` records.
fn copies(kind: Kind, count: usize, records: usize) -> String {
    const COLUMNS: &str = "network, created_at, epoch, instance, run, writer_since, writer_seen_at, timeline, head_epoch, head_seq,
        head_hash, head_prev, head_received_at, first_seq, log_bytes, tail_bytes, tail_records, tail_since";
    let name = match kind {
        Kind::Sqlite => "CAST(printf('%033d', n) AS BLOB)",
        Kind::Postgres => "convert_to(lpad(n::text, 33, '0'), 'UTF8')",
    };
    let mut statements = match kind {
        Kind::Sqlite => "",
        // Nobody checks references of what was copied whole.
        Kind::Postgres => "SET LOCAL session_replication_role = replica;",
    }
    .to_owned();
    // Writing to a string cannot fail.
    let _ = write!(
        statements,
        "INSERT INTO accounts (node, {COLUMNS})
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
         SELECT {name}, {COLUMNS} FROM accounts, numbers WHERE head_seq = {records};"
    );
    for seq in 1..=records {
        let _ = write!(
        statements,
            "INSERT INTO records (account, seq, epoch, hash, received_at, bytes, sealed)
             SELECT copy.account, seq, records.epoch, hash, received_at, bytes, sealed
             FROM records, accounts AS copy
             WHERE seq = {seq} AND records.account = (SELECT min(account) FROM accounts WHERE head_seq = {records})
                AND copy.account > records.account AND copy.head_seq = {records};"
        );
    }
    statements
}
