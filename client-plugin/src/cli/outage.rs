//! Whether a node may be taken over while its writer may be going on without its servers (SPEC 8.10).

use crate::{
    keys::Keys,
    quorum::newest,
    record::Policy,
    remote::Session,
    restore::policy::{self, Depth},
};
use anyhow::bail;
use backstop_protocol::api::AccountState;

/// Refuses unless the servers have not heard of the writer for as long as the backup says that it may go on without them, or a person
/// says that it is `off`. Each server counts by its own clock.
pub(super) async fn allow(
    servers: &[(&Session, &AccountState)],
    keys: &Keys,
    off: bool,
) -> anyhow::Result<()> {
    let silences = servers
        .iter()
        .filter_map(|(_, account)| Some(account.time.millis_since(account.writer_seen_at?) / 1000));
    let Some(silence) = silences.min() else {
        return Ok(());
    };
    if off || silence > Policy::SPOOL_SECONDS_MAX {
        return Ok(());
    }
    let Some((at, account)) = newest(servers.iter().map(|(_, account)| *account).enumerate()) else {
        return Ok(());
    };
    let Some((session, _)) = servers.get(at) else {
        return Ok(());
    };
    // All of it is read: a malicious server can withhold what is newest, but not show this part without that one.
    let declared = policy::policy(*session, keys, account, Depth::Full).await?;
    let seconds = declared.map_or(0, |policy| policy.spool_seconds);
    if seconds > 0 && silence <= seconds {
        bail!(
            "the machine that runs this node was last heard of {silence} s ago, and it may go on without its servers for {seconds} s \
             (outage policy `spool`): it may be paying right now. Two machines with one node lose its channel funds. Nothing was \
             changed. Wait {} s, or make sure that it is off and stays off, and add --old-node-is-off",
            seconds - silence + 1
        );
    }
    Ok(())
}

/// What may be missing where the backup says that the node could go on without its servers; `None` where it does not.
pub(super) fn may_be_missing(policy: Option<&Policy>) -> Option<String> {
    let seconds = policy.map_or(0, |policy| policy.spool_seconds);
    (seconds > 0).then(|| {
        format!(
            "the node was allowed to go on for up to {seconds} s without its servers. If it did, what it did then is missing here, and is in \
             backstop/spool on its old disk"
        )
    })
}
