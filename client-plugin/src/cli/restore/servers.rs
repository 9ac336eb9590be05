//! All servers of the node, as its own last word names them: not just the one whose URL was typed (SPEC 8.7).

use super::account::{Account, Reader};
use crate::{
    directory::{RequireConfig, ServerConfig},
    quorum::{Answer, Door as _, Rule, ServerDoor, Takeover, Who, newest, open_all},
    record::{Policy, Require},
    restore::policy::{self, Depth},
};
use anyhow::{Context as _, bail};
use backstop_protocol::{
    api::AccountState,
    id::{InstanceId, RunId},
};
use std::io::{self, Write};

/// The servers that are asked.
pub(super) struct Chosen {
    doors: Vec<ServerDoor>,
    rule: Rule,
    /// The policy that names them; `None` where the node stated none yet.
    pub(super) policy: Option<Policy>,
}

impl Chosen {
    /// Those that the policy at the typed server names.
    pub(super) async fn at(
        account: &Account<'_>,
        reader: &Reader,
        state: &AccountState,
    ) -> anyhow::Result<Self> {
        let stated = policy::policy(&reader.session, account.keys, state, Depth::Quick).await?;
        Ok(Self::by(stated, account, reader))
    }

    /// The same by the last policy in the log, where that asks for others than these: what is quick to read may be of before.
    pub(super) async fn newer(
        &self,
        account: &Account<'_>,
        reader: &Reader,
        state: &AccountState,
    ) -> anyhow::Result<Option<Self>> {
        let stated = policy::policy(&reader.session, account.keys, state, Depth::Full).await?;
        let other = stated.filter(|stated| {
            let known = self.policy.as_ref();
            known.is_none_or(|known| !policy::same(known, stated))
        });
        Ok(other.map(|other| Self::by(Some(other), account, reader)))
    }

    /// Those that this policy names.
    pub(super) fn by(policy: Option<Policy>, account: &Account<'_>, reader: &Reader) -> Self {
        let typed = ServerConfig {
            url: account.server.url().to_owned(),
            key: account.key,
        };
        let named = policy.iter().flat_map(|policy| &policy.servers);
        let mut servers: Vec<_> = named
            .map(|server| ServerConfig {
                // Who types another URL for the same server has a reason to.
                url: if server.key == typed.key {
                    typed.url.clone()
                } else {
                    server.url.clone()
                },
                key: server.key,
            })
            .collect();
        if servers.is_empty() {
            servers.push(typed);
        }
        let require = policy.as_ref().map_or(Require::All, |policy| policy.require);
        Self {
            rule: Rule::new(require, servers.len()),
            doors: servers
                .into_iter()
                .map(|server| account.door(reader, server))
                .collect(),
            policy,
        }
    }

    /// The way to each.
    pub(super) fn doors(&self) -> &[ServerDoor] {
        &self.doors
    }

    /// How many must be asked to be sure of the newest state.
    pub(super) fn needed(&self) -> usize {
        self.rule.to_take_over()
    }

    /// For the restored node's configuration.
    pub(super) fn servers(&self) -> Vec<ServerConfig> {
        self.doors.iter().map(|door| door.server.clone()).collect()
    }

    /// For the restored node's configuration.
    pub(super) fn require(&self) -> RequireConfig {
        match &self.policy {
            Some(policy) => policy.require.into(),
            None => RequireConfig::All,
        }
    }

    /// Asks all of them where they are and says so. Answers how many must be fenced: as many as are safe, or, where the operator said
    /// `fewer`, as many as there are.
    pub(super) async fn survey(&self, out: &mut dyn Write, fewer: bool) -> anyhow::Result<usize> {
        let safe = self.rule.to_take_over();
        if self.doors.len() == 1 {
            return Ok(1);
        }
        let doors = self.doors.iter().cloned().enumerate();
        let answers = open_all(doors.map(|(at, door)| (at, door, None)), safe).await;
        let accounts = answers
            .iter()
            .filter_map(|answer| answer.opened.as_ref().ok().map(|(_, account)| account));
        let answered = accounts.clone().count();
        let newest = newest(accounts.enumerate()).map(|(_, account)| account.head);
        for Answer { at, opened } in &answers {
            let url = self.doors.get(*at).map_or("", |door| door.url());
            match opened {
                Ok((_, account)) if Some(account.head) == newest => {
                    writeln!(out, "Server    {url}: record {}", account.head.seq)?;
                }
                Ok((_, account)) => writeln!(
                    out,
                    "Server    {url}: BEHIND, record {} of epoch {}",
                    account.head.seq, account.head.epoch
                )?,
                Err(error) => writeln!(out, "Server    {url}: SILENT, {error}")?,
            }
        }
        if answered >= safe {
            return Ok(safe);
        }
        if fewer && answered > 0 {
            writeln!(
                out,
                "WARNING   {answered} of {} servers answered, and {safe} are needed to be sure of the newest state. What only the \
                 missing ones hold is lost, and they do not refuse the old machine.",
                self.doors.len()
            )?;
            return Ok(answered);
        }
        bail!(
            "{answered} of this node's {} servers answered, and {safe} are needed to be sure that none of the missing ones holds a newer \
             state: on an older one the node would lose channel funds. Nothing was changed. Try again when they are back; only if \
             they are gone for good, add --fewer-servers",
            self.doors.len()
        )
    }

    /// Raises the epoch for a new writer. From here on every other one is refused, at its next batch at the latest.
    pub(super) async fn take_over(
        &self,
        instance: InstanceId,
        run: RunId,
        needed: usize,
        out: &mut dyn Write,
    ) -> anyhow::Result<Takeover<ServerDoor>> {
        let who = Who {
            instance,
            run,
            takeover: true,
            taken_at: 0,
        };
        let taken = Takeover::begin(&self.doors, who, needed, 0)
            .await
            .context("this restore cannot take over")?;
        tell(out, &taken)?;
        Ok(taken)
    }
}

/// Names the servers that are not where the newest one is.
fn tell(out: &mut dyn Write, taken: &Takeover<ServerDoor>) -> io::Result<()> {
    for (url, error) in taken.behind() {
        writeln!(
            out,
            "Behind    {url} could not be brought to the newest record: {error}"
        )?;
    }
    for (url, error) in taken.silent() {
        writeln!(
            out,
            "Left out  {url} does not refuse the old machine yet: {error}. The restored node sees to it when it is back"
        )?;
    }
    Ok(())
}
