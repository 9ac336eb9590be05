//! A real node's recorded life through the real plugin to the real server, and back.

use anyhow::{Result, ensure};
use backstop_tests::{
    binaries::binary,
    compare::assert_equal,
    fixtures::{Fixtures, MID_IN_FLIGHT, RecordedBatch},
    lightningd::{Options, replay_trace},
    node::{Node, restored_database},
    plugin::Program,
    servers::Server,
};

/// Backs the batches up from whatever the node has, restores into an empty directory, compares both with what the
/// recorded node had in the end.
fn there_and_back(
    node: &Node,
    batches: impl Iterator<Item = Result<RecordedBatch>>,
    fixtures: &Fixtures,
) -> Result<()> {
    let server = Server::start()?;
    node.setup(&server.url())?;
    let mut options = Options::new(Program::new(binary("backstop")?), 1);
    // The plugin and the server flush; the simulated node's own flushes prove nothing here.
    options.wallet.fsync = false;
    replay_trace(node, &options, batches, |_| ())?;

    let empty = tempfile::tempdir()?;
    let to = empty.path().join("restored");
    node.restore(&server.url(), &to)?.success()?;
    let expected = empty.path().join("expected");
    fixtures.write_final(&expected, &node.node_id()?.0)?;
    let equal = assert_equal(&restored_database(&to, node.network()), &expected)?;
    assert_equal(&node.database(), &expected)?;
    ensure!(equal.rows > 1000, "{equal:?}");
    Ok(())
}

#[test]
fn the_recorded_node_comes_back_from_nothing_but_its_batches() -> Result<()> {
    let Some(fixtures) = Fixtures::find()? else {
        return Ok(());
    };
    let node = Node::new(21)?;
    there_and_back(&node, fixtures.batches(&node.node_id()?.0)?, &fixtures)
}

#[test]
fn the_recorded_node_comes_back_from_a_snapshot_in_its_middle() -> Result<()> {
    let Some(fixtures) = Fixtures::find()? else {
        return Ok(());
    };
    let node = Node::new(22)?;
    let id = node.node_id()?.0;
    fixtures.write_mid(&node.database(), &id)?;
    let rest = fixtures
        .batches(&id)?
        .skip_while(|b| b.as_ref().is_ok_and(|b| b.data_version < MID_IN_FLIGHT));
    there_and_back(&node, rest, &fixtures)
}
