//! `backstop adopt --server-lost-records`: the way on after a server's real loss (I6).
//!
//! The database here is the complete one, and what the server has is an older state of it. So the chain goes on from what the
//! server has, under a higher epoch than anything that was lost: with the server's head as the witness, the next start of
//! lightningd finds its database newer than that and bridges the two by a gap and a snapshot (SPEC 8.3). Whoever still holds
//! a lost record can tell by its epoch that it is of a branch that ended.

use crate::{
    directory::Witness,
    node::Node,
    plugin::{Utc, newest_run, newest_version},
    quorum::{Takeover, Who},
    remote::Session,
    replay::{Durability, Replay},
};
use anyhow::{Context as _, ensure};
use backstop_protocol::{
    api::{AccountState, ProofReport},
    head::Head,
    id::{InstanceId, RunId},
};
use std::{cmp::Ordering, io::Write};

/// Makes this directory the writer, from the server's head on.
pub(super) async fn adopt(node: &Node, out: &mut dyn Write) -> anyhow::Result<()> {
    let (reader, before) = node.open_reader().await?;
    let database = judge(node, &reader, &before).await?;
    writeln!(
        out,
        "{} ends at record {} and lacks what came after; this database has it.{}",
        reader.url(),
        before.head.seq,
        before.writer_seen_at.map_or_else(String::new, |seen| format!(
            " It last heard from this node's writer {} s ago ({}).",
            before.time.millis_since(seen) / 1000,
            Utc(seen)
        ))
    )?;
    let acknowledged = node.directory.witness()?.map_or(0, |witness| witness.head.epoch);
    let instance = InstanceId(node.ambient.rng.array());
    let who = Who {
        instance,
        run: RunId(node.ambient.rng.array()),
        takeover: true,
        taken_at: 0,
    };
    // Above the epochs of what was lost, so that nobody takes those records for newer.
    let needed = node.config.rule().to_take_over();
    let taken = Takeover::begin(&node.doors(), who, needed, acknowledged)
        .await
        .context("this directory cannot take over; nothing was changed here")?;
    let (session, account) = (taken.session()?, taken.account()?);
    super::tell_left_out(&taken, out)?;
    writeln!(out, "Any other machine with this node is refused from here on.")?;
    // Nobody else appends now: what was judged is judged again on what is there for good.
    judge(node, session, account).await?;

    if let Some(timeline) = account.timeline {
        // Without a batch there is no version: the next start sends a snapshot then too.
        let backup = newest_version(node, session, account).await?.unwrap_or_default();
        let report = ProofReport {
            seq: account.head.seq,
            equal: false,
        };
        // What the server gives is not this database: from now on it drops nothing.
        for session in taken.level() {
            session.report_proof(report).await?;
        }
        node.directory
            .write_witness(&Witness::new(timeline, account.head, backup))?;
    } else {
        node.directory.forget_witness()?;
    }
    node.directory.reset_runs()?;
    node.directory.write_taken_at(taken.epoch())?;
    node.directory.write_instance(instance)?;
    writeln!(
        out,
        "Adopted, with the database at version {database} as the complete one. Start lightningd here, and nowhere else: before \
         its first commit it sends a snapshot of all of it. What the server had is kept there; once that is no longer wanted: \
         backstop accept"
    )?;
    Ok(())
}

/// Whether the server lost records that this directory wrote, and this database holds what they said; its version.
async fn judge(node: &Node, session: &Session, account: &AccountState) -> anyhow::Result<u64> {
    let (witness, runs) = (node.directory.witness()?, node.directory.runs()?);
    if let Some(runs) = &runs {
        ensure!(
            !node.directory.is_copied(runs)?,
            "this directory is a copy, and its database may be older than the one that the server lost. Nothing was changed. \
             Do this in the original, or where that is gone use backstop restore or backstop adopt"
        );
    }
    ensure!(
        account
            .timeline
            .zip(witness)
            .is_none_or(|(timeline, witness)| timeline == witness.timeline),
        "{} shows another history of this node than the one that was acknowledged here: nothing was changed",
        session.url()
    );
    let path = node.database();
    ensure!(
        path.exists(),
        "{} is not there: there is nothing to go on from",
        path.display()
    );
    let replay = Replay::open(&path, Durability::Full)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    let database = replay.data_version().context("this database holds no node yet")?;
    replay.close()?;
    let newest = newest_run(node, session, account).await?;
    let is_newer = newest.is_none_or(|(_, backup)| backup.is_none_or(|backup| backup < database));
    let is_ours = newest.zip(runs).is_some_and(|((run, _), runs)| runs.knows(run));
    let acknowledged = witness.map_or(Head::EMPTY, |witness| witness.head);
    let lost = match account.head.cmp_place(&acknowledged) {
        Ordering::Less => true,
        // This very command was cut off after it wrote its witness, or typed again before lightningd was started.
        Ordering::Equal => account.held_since.is_some() && account.head == acknowledged && is_newer,
        // The witness lags behind what was lost; or lightningd went on without the backup.
        Ordering::Greater => is_ours && is_newer,
    };
    ensure!(
        lost,
        "{} lost nothing that was acknowledged here: it ends at {}, the witness is {}. Nothing was changed. What another one of several \
         servers lost, the plugin brings back there: start lightningd, or where that is refused type backstop adopt without \
         --server-lost-records",
        session.url(),
        account.head,
        acknowledged
    );
    let least = witness.map_or(0, |witness| witness.data_version);
    ensure!(
        database >= least,
        "this database is at version {database}, and version {least} was acknowledged: both have lost records, and a node that is \
         started so can lose its channels. Nothing was changed. Look for another server, a mirror or another disk that holds \
         them"
    );
    Ok(database)
}
