//! A node that was allowed to go on without its servers for a while (SPEC 8.10): whether it may still be doing so, and what the old
//! disk holds of that time.

use super::servers::Chosen;
use crate::{
    cli::outage,
    keys::Keys,
    quorum::{ServerDoor, Takeover, open_all},
    record::Opener,
    remote::Session,
    spool::{Entry, Spooled},
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::{api::AccountState, id::Network};
use bytes::Bytes;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// A spool from an old disk.
pub(super) struct OldSpool {
    path: PathBuf,
    spooled: Spooled,
}

impl OldSpool {
    /// Finds it: `path` is the old lightning-dir, the network's directory or `backstop` in it, or the file itself. Every record must open
    /// with this node's key.
    pub(super) fn find(path: &Path, network: Network, keys: &Keys) -> anyhow::Result<Self> {
        let under = ["", "spool", "backstop/spool"].map(PathBuf::from);
        let of_network = Path::new(network.as_str()).join("backstop/spool");
        let found = under
            .iter()
            .chain([&of_network])
            .map(|under| path.join(under))
            .map(|path| {
                if path.ends_with("") {
                    path.components().collect()
                } else {
                    path
                }
            })
            .find(|path| path.is_file());
        let path = found.with_context(|| {
            format!(
                "there is no spool in {}: the old node had drained it, or it is another directory. It is backstop/spool in the network's \
                 directory; without one, leave --spool out",
                path.display()
            )
        })?;
        let spooled = Spooled::read(&path)?
            .with_context(|| format!("{} holds no update: leave --spool out", path.display()))?;
        let opener = Opener::new(&keys.record);
        for entry in &spooled.records {
            opener.peek(&entry.sealed).with_context(|| {
                format!(
                    "{} is not of this node: record {}",
                    path.display(),
                    entry.head.seq
                )
            })?;
        }
        Ok(Self { path, spooled })
    }

    /// Whether it goes on from where the newest of the servers ends.
    pub(super) fn check(&self, taken: &Takeover<ServerDoor>) -> anyhow::Result<&[Entry]> {
        let account = taken.account()?;
        self.spooled.after(account.timeline, account.head).with_context(|| {
            format!(
                "the {} update(s) in {} do not belong behind record {}, where the backup ends. Where another machine took the node over \
                 without them and went on, they cannot be brought in any more. Nothing was put in place",
                self.spooled.records.len(),
                self.path.display(),
                account.head.seq
            )
        })
    }

    /// Gives the fenced servers what they lack of it.
    pub(super) async fn bring(
        &self,
        taken: &mut Takeover<ServerDoor>,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let rest: Vec<Bytes> = self
            .check(taken)?
            .iter()
            .map(|entry| entry.sealed.clone())
            .collect();
        taken
            .append(&rest)
            .await
            .context("the old disk's updates did not reach enough servers. Nothing was put in place; type the same again")?;
        writeln!(
            out,
            "Spool     {} update(s) in {}, of which the servers lacked {}: they are part of the backup now",
            self.spooled.records.len(),
            self.path.display(),
            rest.len()
        )?;
        Ok(())
    }
}

impl Chosen {
    /// Refuses where the backup says that its writer may go on without these servers for longer than they have not heard of it. Those that
    /// this very restore fenced already, at that epoch, last heard from this one.
    pub(super) async fn allow(
        &self,
        keys: &Keys,
        (reader, state): (&Session, &AccountState),
        off: bool,
        fenced_at: Option<u64>,
    ) -> anyhow::Result<()> {
        if let [_] = self.doors() {
            return outage::allow(&[(reader, state)], keys, off).await;
        }
        let doors = self.doors().iter().cloned().enumerate();
        let answers = open_all(doors.map(|(at, door)| (at, door, None)), self.needed()).await;
        let opened: Vec<_> = answers
            .iter()
            .filter_map(|answer| answer.opened.as_ref().ok())
            .filter(|(_, account)| Some(account.epoch) != fenced_at)
            .map(|(session, account)| (session, account))
            .collect();
        outage::allow(&opened, keys, off).await
    }
}

/// `--spool` names something that cannot go with the rest.
pub(super) fn check_args(spool: Option<&Path>, is_scb: bool) -> anyhow::Result<()> {
    if spool.is_some() && is_scb {
        bail!(
            "--spool brings updates of the database back, and --scb-only brings none: leave one of them out"
        );
    }
    ensure!(
        spool.is_none_or(Path::exists),
        "the directory that --spool names is not there"
    );
    Ok(())
}
