//! The first batch of a run: become the writer, then judge, then go on from where the backup ends (I5 to I7).

use super::{
    batch::Versions,
    bridge,
    follower::{Follower, Start},
    halt::Halted,
    judge::{Due, Facts, Halt, Judgement, Last, Reason, judge},
    newest,
    patience::Patience,
    recover::Recovery,
    room::Room,
    servers::{self, Servers},
    spool::{Moment, Spool},
    stdio::{self, Level},
    undrained,
    writer::Writer,
};
use crate::{
    directory::{Directory, Lock, LockError, Stated},
    node::Node,
    quorum::Ended,
    record::{Opener, Sealer},
    remote::Session,
    restore::{
        RestoreError,
        policy::{self, Depth},
    },
    shadow,
};
use backstop_protocol::{
    api::AccountState,
    head::Head,
    id::{RunId, TimelineId},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long a plugin of a lightningd that was killed may take to notice it and let go of the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How often the lock is tried meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// Opens the writer for a run whose first batch is `versions`. `held` is the lock, where the recovery has it already.
pub(super) async fn open(
    node: Arc<Node>,
    versions: Versions,
    recovery: &Recovery,
    held: Option<Lock>,
) -> Result<Writer, Halted> {
    let lock = match held {
        Some(lock) => lock,
        None => wait_for_lock(&node.directory).await.map_err(|error| {
            Halted::new(format!(
                "{error}: is another lightningd running on this directory? The node is halted; nothing is lost. Stop the other one, \
                 and start lightningd again."
            ))
        })?,
    };
    if let Some(pending) = node.directory.pending()? {
        return Err(Halted::new(format!(
            "A change of this node's servers was begun and not completed: what the node does next might be where no restore looks for \
             it. The node is halted; nothing is lost. To complete it, type: {}",
            pending.typed
        )));
    }
    let runs = node.directory.runs()?;
    if let Some(runs) = &runs
        && node.directory.is_copied(runs)?
    {
        return Err(Halted::copied(&node.network_dir));
    }
    let witness = node.directory.witness()?;
    undrained::check(&node)?;

    let run = RunId(node.ambient.rng.array());
    let patience = Patience::of(&node);
    let mut expected = witness.map_or(0, |witness| witness.head.epoch);
    let opener = Opener::new(&node.keys.record);
    let (servers, ended, last) = patience
        .until_done("opening of the backup", &node.network_dir, async || {
            let (servers, ended) = servers::open(&node, run, &mut expected).await?;
            let last = newest::last(&*ended.session, &opener, &ended.account).await?;
            Ok((servers, ended, last))
        })
        .await?;
    check_servers(&node, &patience, &ended).await?;
    let at = (&*ended.session, ended.account, last?);
    let (account, last) = undrained::drain(&node, &patience, &servers, at).await?;
    let witness = node.directory.witness()?;
    let last = last.map(|last| Last {
        // A gap that too few servers can bridge is bridged anew.
        unbridged: last.unbridged || !ended.whole,
        ..last
    });

    let database = node.database();
    let is_new = versions.before == 0 && std::fs::metadata(&database).is_ok_and(|file| file.len() == 0);
    let facts = Facts {
        database: versions.before,
        database_is_new: is_new,
        server: account.timeline.zip(last),
        witness,
        runs: runs.as_ref().map_or(&[], |runs| &runs.runs),
        due: due(&node, &account, runs.as_ref().is_some_and(|runs| runs.migrated)),
    };
    let judgement = judge(&facts);
    if let Judgement::Halt(halt) = judgement {
        return Err(match (halt, recovery) {
            (Halt::Behind { by } | Halt::Empty { by }, Recovery::Impossible(reason)) => {
                Halted::not_recovered(by, reason, &node.network_dir)
            }
            _ => Halted::judged(halt, &node.network_dir),
        });
    }
    node.directory.begin_run(run)?;
    let mut writer = Writer {
        epoch: account.epoch,
        timeline: match account.timeline {
            Some(timeline) => timeline,
            None => TimelineId(node.ambient.rng.array()),
        },
        head: account.head,
        version: versions.before,
        opens_run: true,
        sealer: Sealer::new(&node.keys.record),
        servers,
        patience,
        run,
        node,
        acknowledged: None,
        follower: None,
        spool: None,
        room: Room::default(),
        _lock: lock,
    };
    let seen = witness.is_some_and(|witness| witness.head == account.head);
    let start = writer.go_on(judgement, &account, seen).await?;
    if writer.node.config.shadow.keep {
        writer.follower = start.and_then(|start| {
            let claim = ended.session.claim().copied();
            Follower::start(writer.node.clone(), claim, writer.timeline, start)
        });
    } else if let Err(error) = shadow::remove(&writer.node.directory.shadow()) {
        // The operator may have changed his mind for want of room.
        stdio::log(Level::Warn, &error.to_string());
    }
    writer.declare_spool().await?;
    Ok(writer)
}

/// A configuration that names other servers than the backup does acknowledges what no restore would look for.
async fn check_servers(node: &Node, patience: &Patience, ended: &Ended<Session>) -> Result<(), Halted> {
    let configured = Stated::from(&node.config);
    let (session, account) = (&*ended.session, &ended.account);
    let stated = match node.directory.stated()? {
        Some(stated) => Some(stated),
        // A directory from before there could be several.
        None if node.config.servers.len() == 1 || account.head.is_empty() => None,
        None => patience
            .until_done("opening of the backup", &node.network_dir, async || {
                match policy::policy(session, &node.keys, account, Depth::Full).await {
                    Err(RestoreError::Remote(error)) => Err(error),
                    read => Ok(read),
                }
            })
            .await?
            .map_err(|error| {
                Halted::new(format!(
                    "What the backup says about its servers cannot be read: {error}. The node is halted; nothing is lost."
                ))
            })?
            .map(|policy| {
                let servers = policy.servers.iter().map(|server| server.key);
                Stated::new(policy.require.into(), servers)
            }),
    };
    if stated.is_none_or(|stated| stated == configured) {
        return Ok(());
    }
    Err(Halted::new(
        "backstop/config.toml names other servers, or another rule, than the backup does: what the node does next would be where no \
         restore looks for it. The node is halted; nothing is lost. Put `require` and the [[server]] sections back as they were, and start \
         lightningd again; to change them, type: backstop server --help",
    ))
}

/// Why a snapshot of the live database is due even where the backup ends just there.
fn due(node: &Node, account: &AccountState, migrated: bool) -> Option<Due> {
    let unproved = account.proof.is_some_and(|proof| {
        !proof.equal
            && account
                .snapshot
                .is_none_or(|snapshot| snapshot.base_seq <= proof.seq)
    });
    if migrated {
        Some(Due::Migrated)
    } else if unproved {
        Some(Due::Unproved)
    } else {
        (account.roll_up && !node.config.shadow.keep).then_some(Due::RollUp)
    }
}

impl Writer {
    /// Does what the judgement asks for before the first batch; `seen` says that the backup ends in what this directory last saw
    /// acknowledged. Returns where the shadow begins.
    async fn go_on(
        &mut self,
        judgement: Judgement,
        account: &AccountState,
        seen: bool,
    ) -> Result<Option<Start>, Halted> {
        let is_empty = account.head == Head::EMPTY;
        // What this directory did not see acknowledged may stand at too few servers, and another record in its place at one that is
        // away now: from here on this run's own record decides between them, before lightningd acts on either.
        let is_open = matches!(self.servers, Servers::Several(_)) && !seen;
        if is_empty || is_open && !matches!(judgement, Judgement::Snapshot(_)) {
            let policy = self
                .node
                .config
                .policy(self.run, self.opens_run, self.node.machine());
            self.append(policy).await?;
            self.node
                .directory
                .write_stated(&Stated::from(&self.node.config))?;
        }
        let tell = |why: &str| {
            stdio::log(
                Level::Info,
                &format!("{why}: taking a snapshot of the database before the node goes on"),
            );
        };
        match judgement {
            Judgement::Snapshot(reason) => {
                tell(&why(reason));
                return bridge::take_snapshot(self).await;
            }
            Judgement::Renew(due) => {
                tell(why_due(due));
                if let Some(start) = bridge::renew_snapshot(self).await {
                    return Ok(Some(start));
                }
                // What the backup gives is known to be wrong: a roll-up made of it would hide that (I9).
                return Ok((due != Due::Unproved).then_some(Start::Continue {
                    head: self.head,
                    proof: None,
                }));
            }
            _ => {}
        }
        stdio::log(
            Level::Info,
            &format!(
                "This node is protected: the backup goes on from record {}",
                self.head.seq
            ),
        );
        if is_empty {
            return Ok(Some(Start::Empty));
        }
        Ok(Some(Start::Continue {
            head: self.head,
            proof: bridge::copy_for_proof(self, account).await,
        }))
    }

    /// Says in the backup itself for how long this run may go on without its servers, and is ready to do so once enough of them hold
    /// that: whoever takes the node over reads it there.
    async fn declare_spool(&mut self) -> Result<(), Halted> {
        let node = Arc::clone(&self.node);
        let seconds = node.config.outage.spool_seconds();
        let sent = Moment::now(&node);
        // In each run, and said of no spool too where there ever was one: the snapshot of a gap carries an older word on.
        if seconds > 0 || node.directory.declared_spool()?.is_some() {
            let policy = node.config.policy(self.run, self.opens_run, node.machine());
            self.append(policy).await?;
            node.directory.write_declared_spool(seconds)?;
        }
        if seconds > 0 {
            let witness = self.witness();
            let confirmed = (witness, sent);
            self.spool = Some(Spool::new(
                &node,
                &self.servers,
                &self.patience,
                self.epoch,
                confirmed,
            ));
        }
        Ok(())
    }
}

fn why(reason: Reason) -> String {
    match reason {
        Reason::FirstBackup => "The node is backed up for the first time".to_owned(),
        Reason::Unreported(versions) => {
            format!("{versions} update(s) were written while no backup was listening, as at a shutdown")
        }
        Reason::Unfinished => "An earlier snapshot was not completed".to_owned(),
    }
}

fn why_due(due: Due) -> &'static str {
    match due {
        Due::Migrated => "The last run upgraded the database, and lightningd rewrote it",
        Due::Unproved => "What the backup gives was found to differ from the database",
        Due::RollUp => "The server asks for a roll-up, and no shadow is kept on this machine to make it of",
    }
}

/// Waits for the directory's lock: a plugin whose lightningd was killed lets go as soon as it notices.
pub(super) async fn wait_for_lock(directory: &Directory) -> Result<Lock, LockError> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match directory.lock() {
            Err(LockError::Held) if Instant::now() < deadline => tokio::time::sleep(LOCK_RETRY).await,
            other => return other,
        }
    }
}
