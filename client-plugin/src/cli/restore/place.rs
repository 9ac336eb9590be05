//! The lightning-dir that a node is restored into: what must not be there, and what is written beside the database.

use super::{Args, secret::Candidate, servers::Chosen};
use crate::{
    cln::{
        HsmSecret, NodeDir,
        hsm_secret::HsmSecretError,
        locate::Wallet,
        pidfile::{self, Holder},
    },
    directory::{Config, Directory, OutageConfig, ServerConfig, ShadowConfig, Stated, Witness},
    durable,
    files::FileName,
    keys::{KeyFile, Root},
    random::SharedRng,
    restore::{Restored, vacant},
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::{
    api::AccountState,
    grant::SignedGrant,
    id::{InstanceId, NodeId, RunId, ServerKey},
};
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A place that was found free.
pub(super) struct Place {
    node: NodeDir,
    database: PathBuf,
    directory: Directory,
    /// The backup of this very node was set up here before.
    configured: bool,
    hsm_secret: Existing,
}

/// What the takeover gave.
pub(super) struct Taken<'a> {
    pub(super) state: AccountState,
    pub(super) instance: InstanceId,
    /// The run that took over, of which one record may stand behind the restored head.
    pub(super) run: RunId,
    pub(super) grant: SignedGrant,
    pub(super) servers: &'a Chosen,
}

/// What `hsm_secret` is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    None,
    /// The node's own.
    Own,
    /// One with a passphrase that nobody asked for.
    Locked,
}

/// What else the node needs before it can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) node: NodeDir,
    /// What there is to do about `hsm_secret`.
    pub(super) hsm_secret: HsmSecretRest,
}

/// What became of `hsm_secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HsmSecretRest {
    /// It was there.
    There,
    /// It was there, and whether it is the node's could not be seen.
    ThereLocked,
    /// It was written.
    Written,
    /// It is this file, which must be copied.
    Copy(PathBuf),
    /// It must come from elsewhere.
    Missing,
}

impl Place {
    /// Looks whether the node can be restored there, and changes nothing.
    pub(super) fn look(
        node: NodeDir,
        candidate: &Candidate,
        id: NodeId,
        url: &str,
        key: ServerKey,
    ) -> anyhow::Result<Self> {
        let database = match node.wallet() {
            Wallet::Sqlite(path) => path.clone(),
            Wallet::Postgres => bail!(
                "{} tells lightningd to keep its database in PostgreSQL (`wallet=`), where a restored database would not be \
                 looked for: take that line out first",
                node.base().join("config").display()
            ),
        };
        let holder = pidfile::holder(node.pidfile())
            .with_context(|| format!("{} cannot be read", node.pidfile().display()))?;
        ensure!(
            holder == Holder::Nobody,
            "a lightningd runs in {}: a restore needs a directory of its own",
            node.base().display()
        );
        vacant(&database)?;
        let directory = Directory::in_network_dir(&node.net());
        let server = ServerConfig {
            url: url.to_owned(),
            key,
        };
        let configured = directory.exists();
        if configured {
            check_directory(&directory, &candidate.root, id, &server)?;
        }
        let hsm_secret = existing(&node.hsm_secret(), id)?;
        Ok(Self {
            node,
            database,
            directory,
            configured,
            hsm_secret,
        })
    }

    /// Where the database goes.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Makes the directories, 0700, so that a wrong path shows before anybody is fenced off.
    pub(super) fn make(&self) -> anyhow::Result<()> {
        for dir in [Some(self.node.net()), self.database.parent().map(Path::to_owned)]
            .into_iter()
            .flatten()
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("{} cannot be made", dir.display()))?;
        }
        Ok(())
    }

    /// The name under which this directory writes: the one it has, else a new one.
    pub(super) fn instance(&self, rng: &SharedRng) -> InstanceId {
        self.directory
            .instance()
            .unwrap_or_else(|_| InstanceId(rng.array()))
    }

    /// Writes what the restored node needs to go on with its backup: the configuration last, and of the secret only
    /// what came as words.
    pub(super) fn complete(
        &self,
        candidate: &Candidate,
        args: &Args,
        taken: &Taken<'_>,
        restored: &Restored,
    ) -> anyhow::Result<Rest> {
        let hsm_secret = self.complete_hsm_secret(candidate, args).with_context(|| {
            format!(
                "the database is in place, but {} could not be written",
                self.node.hsm_secret().display()
            )
        })?;
        self.complete_directory(candidate, args, taken, restored)
            .with_context(|| {
                format!(
                    "the database is in place, but {} is not complete",
                    self.directory.path().display()
                )
            })?;
        Ok(Rest {
            node: self.node.clone(),
            hsm_secret,
        })
    }

    /// Writes what came as words, where there is no secret yet.
    pub(super) fn complete_hsm_secret(
        &self,
        candidate: &Candidate,
        args: &Args,
    ) -> io::Result<HsmSecretRest> {
        match (self.hsm_secret, &candidate.hsm_secret, &args.hsm_secret) {
            (Existing::Own, ..) => Ok(HsmSecretRest::There),
            (Existing::Locked, ..) => Ok(HsmSecretRest::ThereLocked),
            (Existing::None, Some(bytes), _) => {
                durable::write_new(&self.node.hsm_secret(), bytes, 0o400)?;
                Ok(HsmSecretRest::Written)
            }
            (Existing::None, None, Some(path)) => Ok(HsmSecretRest::Copy(path.clone())),
            (Existing::None, None, None) => Ok(HsmSecretRest::Missing),
        }
    }

    fn complete_directory(
        &self,
        candidate: &Candidate,
        args: &Args,
        taken: &Taken<'_>,
        restored: &Restored,
    ) -> anyhow::Result<()> {
        let directory = &self.directory;
        let (servers, require) = (taken.servers.servers(), taken.servers.require());
        directory.create()?;
        let node = taken.state.node;
        if !self.configured {
            let root = Root::from_bytes(*candidate.root.expose_bytes());
            let key = KeyFile {
                node,
                network: args.network,
                generation: args.generation,
                root,
            };
            key.write(&directory.key_path())?;
        }
        let keys = servers.iter().map(|server| server.key);
        directory.write_stated(&Stated::new(require, keys))?;
        directory.write_taken_at(taken.state.epoch)?;
        let declared = restored.policy.as_ref().map_or(0, |policy| policy.spool_seconds);
        directory.write_declared_spool(declared)?;
        directory.write_instance(taken.instance)?;
        // No record of an earlier run can be missing from the database: it is the backup's own state.
        directory.reset_runs()?;
        directory.begin_run(taken.run)?;
        directory.end_run()?;
        if let Some(timeline) = taken.state.timeline {
            directory.write_witness(&Witness::new(timeline, restored.head, restored.data_version))?;
        }
        if self.configured {
            let before = directory.config()?;
            if before.servers != servers || before.require != require {
                directory.write_config(&Config {
                    require,
                    servers,
                    ..before
                })?;
            }
            return Ok(());
        }
        directory.write_config(&Config {
            version: 1,
            node,
            network: args.network,
            require,
            proxy: args.proxy.clone(),
            database: (self.database != self.node.net().join("lightningd.sqlite3"))
                .then(|| self.database.clone()),
            files: FileName::defaults(),
            // The operator's choice outlives the machine.
            outage: OutageConfig::through(args.proxy.as_deref()).spooling(declared),
            shadow: ShadowConfig::default(),
            grant: taken.grant.clone(),
            servers,
        })?;
        Ok(())
    }
}

/// A directory that was set up before must be this very node's, root and server included.
fn check_directory(
    directory: &Directory,
    root: &Root,
    node: NodeId,
    server: &ServerConfig,
) -> anyhow::Result<()> {
    let path = directory.path().display();
    let config = directory.config()?;
    let key = KeyFile::read(&directory.key_path())?;
    ensure!(
        config.node == node
            && key.root.is(root)
            && config.servers.iter().any(|known| known.key == server.key),
        "{path} is set up for another node, root or server than this backup's. Nothing was changed. Move it away \
         (`mv {path} {path}.old`) and restore again"
    );
    Ok(())
}

fn existing(path: &Path, node: NodeId) -> anyhow::Result<Existing> {
    let file = match HsmSecret::read(path) {
        Err(HsmSecretError::Io { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
            return Ok(Existing::None);
        }
        other => other.with_context(|| format!("{} is there and is not the node's", path.display()))?,
    };
    if file.needs_passphrase() {
        return Ok(Existing::Locked);
    }
    let found = file.unlock(None)?.node_id();
    ensure!(
        found == node,
        "{} is that of node {found}, and the backup is of node {node}: restore into another directory",
        path.display()
    );
    Ok(Existing::Own)
}

#[cfg(test)]
mod tests;
