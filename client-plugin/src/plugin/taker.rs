//! Which machine took the node over: it says so in the backup, sealed, and this one can still read that.

use super::halt::Halted;
use crate::{
    node::{Ambient, Node, newest_of},
    restore::policy::{self, Depth},
};
use std::{path::Path, time::Duration};
use tokio::time::timeout;

/// How long the question may take. Nothing waits for it but the end of the node.
const LONGEST: Duration = Duration::from_secs(10);

/// The same, with the name of the machine that took over, where that is the reason and the name can be had.
pub(super) async fn name(halted: Halted, network_dir: &Path, ambient: &Ambient) -> Halted {
    if !halted.is_taken() {
        return halted;
    }
    let named = timeout(LONGEST, ask(network_dir, ambient)).await;
    halted.by(named.unwrap_or_default().as_deref())
}

/// The same of a reason that is still to come.
pub(super) async fn named<T>(
    work: impl Future<Output = Result<T, Halted>>,
    network_dir: &Path,
    ambient: &Ambient,
) -> Result<T, Halted> {
    match work.await {
        Ok(done) => Ok(done),
        Err(halted) => Err(name(halted, network_dir, ambient).await),
    }
}

async fn ask(network_dir: &Path, ambient: &Ambient) -> Option<String> {
    let node = Node::load(network_dir, ambient.clone()).ok()?;
    let own = node.directory.runs().ok()?;
    let (session, account) = newest_of(node.open_readers().await, 1).ok()?;
    let policy = policy::policy(&session, &node.keys, &account, Depth::Full)
        .await
        .ok()??;
    let is_own = own.is_some_and(|runs| runs.knows(policy.run));
    (!is_own && !policy.by.is_empty()).then_some(policy.by)
}
