//! A server is brought to where another one is, so that what it holds restores by itself.

use crate::{
    node::Node,
    quorum::{bring, restores},
    remote::Session,
    restore::choose_base,
    snapshot::{self, Pace, Plan, upload},
};
use anyhow::Context as _;
use backstop_protocol::api::AccountState;
use std::io::Write;

/// A session, and the account as it stood when it was opened.
pub(super) type Open<'a> = (&'a Session, &'a AccountState);

/// Copies the sealed records that `to` lacks up to the head of `from`.
pub(super) async fn records(
    (to, held): Open<'_>,
    (from, account): Open<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let copied = bring(to, held, from, account.head, (to.url(), from.url()))
        .await
        .with_context(|| format!("{} cannot be brought to where {} is", to.url(), from.url()))?;
    if copied.records > 0 {
        writeln!(out, "Copied    {} records to {}", copied.records, to.url())?;
    }
    Ok(())
}

/// Copies the sealed records that `to` lacks up to the head of `from`, and the snapshot from which they restore, under its own
/// name, where the records alone do not. What is there already is not sent again.
pub(super) async fn copy(
    node: &Node,
    (to, held): Open<'_>,
    (from, account): Open<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    records((to, held), (from, account), out).await?;
    let now = to.account().await?;
    if restores(to, &now, account.head.seq).await? {
        return Ok(());
    }
    let base = choose_base(from, &node.keys.manifest, account, None)
        .await?
        .context("no snapshot leads to what was copied: try again in a moment")?;
    let manifest = &base.manifest;
    if now
        .snapshot
        .is_some_and(|newest| newest.snapshot == manifest.snapshot)
    {
        return Ok(());
    }
    let file = node.directory.work()?.join("copied.sqlite3");
    crate::durable::need_room(&node.directory.work()?, manifest.database_len)?;
    // What an earlier attempt left.
    snapshot::copy::remove(&file)?;
    let sent = async {
        snapshot::fetch(from, &node.keys, manifest, &file, &mut |_, _| {}).await?;
        let plan = Plan {
            database: &file,
            notes: &file,
            base: manifest.base,
            snapshot: manifest.snapshot,
            data_version: manifest.data_version,
            policy: manifest.policy.clone(),
            parent: None,
            pace: Pace::Full,
        };
        anyhow::Ok(upload(to, &node.keys, &plan, &node.ambient.rng, &mut |_, _| {}).await?)
    };
    let sent = sent.await;
    snapshot::copy::remove(&file)?;
    writeln!(
        out,
        "Copied    the snapshot after record {} to {}, {} bytes",
        manifest.base.seq,
        to.url(),
        sent?.sent_bytes
    )?;
    Ok(())
}
