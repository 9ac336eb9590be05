//! Where a node can be set up.

use crate::cln::{NodeDir, locate::Wallet};
use anyhow::{Context as _, ensure};
use std::os::unix::fs::MetadataExt as _;

/// A place where the plugin would work: lightningd's own, with a database that has a hook.
pub(super) fn check(node: &NodeDir) -> anyhow::Result<()> {
    let net = node.net();
    ensure!(
        *node.wallet() != Wallet::Postgres,
        "this node keeps its database in PostgreSQL (`wallet=` in its configuration): lightningd calls no db_write \
         hook there, so Backstop cannot protect it. Use PostgreSQL's own replication"
    );
    let metadata = std::fs::metadata(&net).with_context(|| {
        format!(
            "there is no node in {}: check --lightning-dir and --network",
            net.display()
        )
    })?;
    let (owner, user) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    ensure!(
        owner == user,
        "{} belongs to user {owner}, and you are user {user}: lightningd could not read what setup writes. Run it as \
         that user (`sudo -u '#{owner}' backstop setup …`)",
        net.display()
    );
    Ok(())
}
