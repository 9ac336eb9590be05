//! Other servers, or another rule: valid under the old and the new one at once (SPEC 8.7).
//!
//! In order: copy the backup to the servers that come, while lightningd may run; then, with the directory's lock, become the writer at
//! enough servers of both lists and bring them to the newest head; write down what is to be; append a policy record, which must be
//! durable under both rules; and write the configuration. Cut off before the note, nothing was changed; after it, the same command
//! does the rest, and until then no plugin starts.

use super::{
    copy::{copy, records},
    revoked,
    wanted::Wanted,
};
use crate::{
    cln::pidfile::{self, Holder},
    directory::{Config, LockError, Pending, ServerConfig, Stated, Witness},
    node::{Node, newest_of},
    plugin::{look, newest_version},
    quorum::{Answer, Claimed, Door as _, Held, Rule, ServerDoor, Who, claim, newest},
    record::{Place, Sealed, Sealer},
    remote::{Identity, Session},
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::{api::AccountState, id::RunId, problem::ProblemCode};
use std::{io::Write, sync::Arc};

/// A change on its way.
pub(super) struct Change<'a> {
    node: &'a Node,
    wanted: Wanted,
    /// Whether a person said that who is silent is gone for good.
    gone: bool,
    /// All servers of the old list and the new one, and of one that was given up on the way: the old ones first.
    servers: Vec<ServerConfig>,
    invite: Option<String>,
}

impl<'a> Change<'a> {
    /// Nothing happens yet.
    pub(super) fn new(node: &'a Node, wanted: Wanted, gone: bool, invite: Option<String>) -> Self {
        let mut servers = node.config.servers.clone();
        let pending = wanted.pending.iter().flat_map(|pending| &pending.servers);
        for server in wanted.next.servers.iter().chain(pending) {
            if !servers.iter().any(|known| known.key == server.key) {
                servers.push(server.clone());
            }
        }
        Self {
            node,
            wanted,
            gone,
            servers,
            invite,
        }
    }

    /// Makes it.
    pub(super) async fn make(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (node, next) = (self.node, &self.wanted.next);
        let runs = node.directory.runs()?;
        if let Some(runs) = &runs {
            ensure!(
                !node.directory.is_copied(runs)?,
                "this directory is a copy of the one that is backed up: type backstop adopt first, if it is the only one left"
            );
        }
        let answers = node.open_readers().await;
        let is_new = runs.is_none() && answers.iter().all(holds_nothing);
        if is_new {
            self.greet().await?;
        } else {
            let enough = if self.gone {
                1
            } else {
                node.config.rule().to_take_over()
            };
            let (reader, account) = newest_of(answers, enough).with_context(|| {
                format!(
                    "too few of this node's servers answer; nothing was changed. {}",
                    self.way_on()
                )
            })?;
            self.judge(&reader, &account).await?;
            self.copy_ahead(&reader, &account, out).await?;
        }
        let stopped = matches!(pidfile::holder(node.files.pidfile()), Ok(Holder::Nobody));
        let lock = node.directory.lock();
        if !stopped || matches!(lock, Err(LockError::Held)) {
            bail!(
                "lightningd runs, and the rest of the change needs it stopped for a moment. What takes long is done. Stop lightningd, \
                 then type the same again: {}",
                self.wanted.typed
            );
        }
        let _lock = lock?;
        if is_new {
            node.directory.write_config(next)?;
        } else {
            self.switch(runs.is_none_or(|runs| runs.clean), out).await?;
        }
        self.report(out)
    }

    /// Whether this directory may speak for the node.
    async fn judge(&self, session: &Session, account: &AccountState) -> anyhow::Result<()> {
        let seen = look(self.node, session, account).await?;
        if let Some(halt) = seen.halt {
            bail!("{halt} The servers were not changed");
        }
        ensure!(
            seen.restorable,
            "the backup is not complete yet: start lightningd first, its first batch sees to it. Nothing was changed"
        );
        Ok(())
    }

    fn door(&self, server: &ServerConfig) -> ServerDoor {
        let door = self.node.door(server.clone());
        let identity = Identity {
            keys: Arc::clone(&door.identity.keys),
            node: door.identity.node,
            network: door.identity.network,
            grant: door.identity.grant.clone(),
            invite: self.invite.clone().filter(|_| !has(&self.node.config, server)),
        };
        ServerDoor {
            identity: Arc::new(identity),
            ..door
        }
    }

    /// Nothing was ever backed up: a server that comes must be there and take the node, as at `setup`.
    async fn greet(&self) -> anyhow::Result<()> {
        for server in &self.wanted.next.servers {
            match self.door(server).open(None).await {
                Err(error) if error.code() != Some(ProblemCode::NotFound) => {
                    return Err(error).context("nothing was changed");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends the backup to the servers that come. They are claimed for this directory alone: the plugin that may be at work writes to
    /// others.
    async fn copy_ahead(
        &self,
        reader: &Session,
        account: &AccountState,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let node = self.node;
        for server in &self.wanted.next.servers {
            if has(&node.config, server) {
                continue;
            }
            let who = Who {
                // Whoever wrote there before the node's present epoch has been taken over since.
                taken_at: node.taken_at.max(account.epoch),
                ..self.who(RunId(node.ambient.rng.array()))
            };
            let doors = [self.door(server)];
            let claimed = claim(&doors, who, 1, account.epoch).await.with_context(|| {
                format!(
                    "{} does not take this node's backup; nothing was changed",
                    server.url
                )
            })?;
            for Held {
                session,
                account: held,
                ..
            } in &claimed.held
            {
                copy(node, (session, held), (reader, account), out).await?;
            }
        }
        Ok(())
    }

    fn who(&self, run: RunId) -> Who {
        Who {
            instance: self.node.instance,
            run,
            takeover: false,
            taken_at: self.node.taken_at,
        }
    }

    /// The rest, with the lock.
    async fn switch(&self, was_clean: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        let (node, next) = (self.node, &self.wanted.next);
        let run = RunId(node.ambient.rng.array());
        let doors: Vec<_> = self.servers.iter().map(|server| self.door(server)).collect();
        let needed = self.needed().max(next.rule().needed);
        let Claimed { epoch, held, left } =
            claim(&doors, self.who(run), needed, 0).await.with_context(|| {
                format!(
                    "too few servers can be written to; nothing was changed. {}",
                    self.way_on()
                )
            })?;
        let accounts = held.iter().map(|held| &held.account).enumerate();
        let best = newest(accounts).and_then(|(best, _)| held.get(best));
        let best = best.context("no server answers")?;
        let (session, account) = (&*best.session, &best.account);
        self.judge(session, account).await?;
        let version = newest_version(node, session, account)
            .await?
            .context("the backup holds no database yet: start lightningd first")?;

        let mut wrong: Vec<String> = left.iter().map(|(_, error)| error.to_string()).collect();
        let mut level = Vec::new();
        for one in &held {
            let stays = self.servers.get(one.at).is_some_and(|server| has(next, server));
            let (to, from) = ((&*one.session, &one.account), (session, account));
            let brought = if stays {
                match copy(node, to, from, out).await {
                    Ok(()) => revoked::tell(node, to.0, from.0, out).await,
                    Err(error) => Err(error),
                }
            } else {
                records(to, from, out).await
            };
            match brought {
                Ok(()) => level.push(one.at),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        self.check(&level, &wrong)?;

        let timeline = account.timeline.context("the server names no timeline")?;
        let place = Place {
            timeline,
            epoch,
            seq: account.head.seq + 1,
            prev: account.head.hash,
        };
        let mut rng = node.ambient.rng.clone();
        let sealed =
            Sealer::new(&node.keys.record).seal(place, &next.policy(run, true, node.machine()), &mut rng)?;
        // From here on there is no way back but by a command.
        let pending = Pending::new(self.wanted.typed.clone(), next);
        node.directory.write_pending(&pending)?;
        node.directory.begin_run(run)?;
        let told = tell(&held, &sealed, &mut wrong).await;
        self.check(&told, &wrong).with_context(|| {
            format!(
                "the change is begun and not completed. Nothing is lost; lightningd does not start until it is. When the servers are \
                 back, type: {}",
                self.wanted.typed
            )
        })?;
        let head = sealed.header.head(sealed.hash);
        node.directory
            .write_witness(&Witness::new(timeline, head, version))?;
        node.directory.write_stated(&Stated::from(next))?;
        node.directory.write_config(next)?;
        if was_clean {
            node.directory.end_run()?;
        }
        node.directory.forget_pending()?;
        for (at, error) in &left {
            let silent = self.servers.get(*at).filter(|server| !has(next, server));
            if let Some(server) = silent {
                writeln!(
                    out,
                    "Careful   {} was not told: {error}. A restore that is pointed at it alone would find what it had when it was last \
                     written to.",
                    server.url
                )?;
            }
        }
        Ok(())
    }

    /// How many of the old servers must take the change.
    fn needed(&self) -> usize {
        if self.gone {
            1
        } else {
            self.node.config.rule().needed
        }
    }

    /// Whether servers at these places are enough of the old ones, and of the new ones.
    fn check(&self, at: &[usize], wrong: &[String]) -> anyhow::Result<()> {
        let next = &self.wanted.next;
        let of = |config: &Config| {
            let servers = at.iter().filter_map(|at| self.servers.get(*at));
            servers.filter(|server| has(config, server)).count()
        };
        let (old, new) = (of(&self.node.config), of(next));
        for (which, there, needed, rule) in [
            ("present", old, self.needed(), self.node.config.rule()),
            ("future", new, next.rule().needed, next.rule()),
        ] {
            ensure!(
                there >= needed,
                "{there} of the {} {which} servers take the change, and {needed} must: {}. {}",
                rule.servers,
                wrong.join("; "),
                self.way_on()
            );
        }
        Ok(())
    }

    /// What to do where too few are there.
    fn way_on(&self) -> &'static str {
        if self.gone {
            "Remove or replace those that are gone in one step: backstop server remove takes several URLs"
        } else {
            "Try again when they are back; only if they are gone for good, and no other machine runs this node, add --gone-for-good"
        }
    }

    fn report(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let next = &self.wanted.next;
        let Rule { servers, needed } = next.rule();
        for server in &next.servers {
            writeln!(out, "Server    {}, with the key {}", server.url, server.key)?;
        }
        writeln!(
            out,
            "Rule      {needed} of {servers} must hold each update before the node goes on; a restore needs {}",
            next.rule().to_take_over()
        )?;
        for server in self.servers.iter().filter(|server| !has(next, server)) {
            writeln!(
                out,
                "Left      {} keeps what it holds until now, and gets nothing any more. To have it removed there, type: backstop \
                 delete-backup --server {}",
                server.url, server.url
            )?;
        }
        writeln!(out, "Done. Start lightningd.")?;
        Ok(())
    }
}

/// Sends the record to all of them; where it was taken.
async fn tell(held: &[Held<Session>], sealed: &Sealed, wrong: &mut Vec<String>) -> Vec<usize> {
    let mut told = Vec::new();
    for one in held {
        match one.session.append(sealed.bytes.clone()).await {
            Ok(_) => told.push(one.at),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    told
}

/// Whether a server says that it has nothing of this node.
fn holds_nothing(answer: &Answer<Session>) -> bool {
    match &answer.opened {
        Ok((_, account)) => account.head.is_empty(),
        Err(error) => error.code() == Some(ProblemCode::NotFound),
    }
}

fn has(config: &Config, server: &ServerConfig) -> bool {
    config.servers.iter().any(|known| known.key == server.key)
}
