//! A spool that an earlier run left: it is drained before the first batch is judged, while lightningd waits (SPEC 8.10).

use super::{
    halt::Halted,
    judge::{Last, against_witness},
    newest,
    patience::Patience,
    servers::Servers,
    stdio::{self, Level},
};
use crate::{
    directory::{Directory, Witness},
    node::Node,
    quorum::Record,
    record::Opener,
    remote::{RemoteError, Session},
    spool::{self, Entry, Spooled},
};
use backstop_protocol::api::AccountState;
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

/// A spool that cannot be read is noticed before anything is claimed.
pub(super) fn check(node: &Node) -> Result<(), Halted> {
    read(node).map(|_| ())
}

fn read(node: &Node) -> Result<Option<Spooled>, Halted> {
    Spooled::read(&node.directory.spool()).map_err(|error| {
        Halted::new(format!(
            "{error}. Updates that this node acted on may be in it alone. The node is halted; nothing is changed. Bring the file back \
             from a copy of this disk, or move it away and type: backstop status"
        ))
    })
}

/// Sends what the servers lack of the spool, which must go on from where they end or from inside it, and lets go of it. Returns the
/// account and its newest record as they are then.
pub(super) async fn drain(
    node: &Node,
    patience: &Patience,
    servers: &Servers,
    (session, account, last): (&Session, AccountState, Option<Last>),
) -> Result<(AccountState, Option<Last>), Halted> {
    let Some(spooled) = read(node)? else {
        return Ok((account, last));
    };
    let halt = node
        .directory
        .witness()?
        .zip(account.timeline)
        .and_then(|(witness, timeline)| against_witness(&witness, timeline, account.head));
    if let Some(halt) = halt {
        return Err(Halted::judged(halt, &node.network_dir));
    }
    let rest = spooled.after(account.timeline, account.head).map_err(|astray| {
        Halted::new(format!(
            "{astray} (record {} at the servers). This machine must not go on: it could lose channel funds",
            account.head.seq
        ))
    })?;
    stdio::log(
        Level::Info,
        &format!(
            "The last run left {} update(s) in its spool, of which the servers lack {}: they go there before the node goes on",
            spooled.records.len(),
            rest.len()
        ),
    );
    let opener = Opener::new(&node.keys.record);
    let own = |entry: &Entry| opener.peek(&entry.sealed);
    let peeked = spooled.records.iter().map(own).collect::<Result<Vec<_>, _>>();
    let peeked = peeked.map_err(|error| {
        Halted::new(format!(
            "{} cannot be opened with this node's key: {error}. The node is halted; nothing is changed",
            node.directory.spool().display()
        ))
    })?;
    send(node, patience, servers, rest).await?;
    let version = peeked.iter().rev().find_map(|peek| peek.data_version);
    if let (Some(timeline), Some(version)) = (account.timeline, version) {
        // Before the spool goes: where the database is newer than the backup, this is what heals it (I6).
        node.directory
            .write_witness(&Witness::new(timeline, spooled.end(), version))?;
    }
    let path = node.directory.spool();
    spool::remove(&path).map_err(|error| {
        Halted::new(format!(
            "{} is drained and cannot be removed: {error}. The node is halted; nothing is lost",
            path.display()
        ))
    })?;
    stdio::log(Level::Info, "The spool is drained: the servers hold all of it");
    let (account, last) = patience
        .until_done("opening of the backup", &node.network_dir, async || {
            let account = session.account().await?;
            if account.head.seq < spooled.end().seq {
                // Enough others hold it; this one is being brought there.
                return Err(RemoteError::Unreachable {
                    url: session.url().to_owned(),
                    reason: "it does not hold all of the spool yet".to_owned(),
                });
            }
            let last = newest::last(session, &opener, &account).await?;
            Ok((account, last))
        })
        .await?;
    Ok((account, last?))
}

/// Returns once enough servers hold these records.
async fn send(node: &Node, patience: &Patience, servers: &Servers, rest: &[Entry]) -> Result<(), Halted> {
    let records: Vec<Record> = rest.iter().map(record).collect();
    let (mut done, progressed) = (0, AtomicBool::new(false));
    patience
        .until_done_or_stuck(
            "draining of the spool",
            &node.network_dir,
            &progressed,
            async || {
                while let Some(rest) = records.get(done..).filter(|rest| !rest.is_empty()) {
                    let count = servers.window(rest).min(rest.len());
                    servers.deliver(rest.get(..count).unwrap_or(rest)).await?;
                    done += count;
                    progressed.store(true, Ordering::Relaxed);
                }
                Ok(())
            },
        )
        .await
}

fn record(entry: &Entry) -> Record {
    Record {
        head: entry.head,
        prev: entry.header.prev,
        sealed: entry.sealed.clone(),
    }
}

/// The reason for a halt, and what it means for the spool, where there is one.
pub(super) fn told(halted: &Halted, network_dir: &Path) -> String {
    let path = Directory::in_network_dir(network_dir).spool();
    let Ok(Some(spooled)) = Spooled::read(&path) else {
        return halted.to_string();
    };
    format!(
        "{halted} In {} are {} update(s) that this node acted on while its servers were away. Keep that file: as long as nobody took \
         the node over, the next start here sends them. A machine that took it over lacks them, and on that older state channel \
         funds can be lost: do not start it, restore again, with these: backstop restore --spool {} ...",
        path.display(),
        spooled.records.len(),
        path.display(),
    )
}
