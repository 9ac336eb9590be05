//! One node as this machine has it: its directory, its configuration, its keys; and the sessions it can open.

use crate::{
    cln::{
        NodeDir,
        locate::{LocateError, Wallet},
    },
    directory::{Config, Directory, DirectoryError, ServerConfig, machine},
    keys::{
        Keys,
        key_file::{KeyFile, KeyFileError},
    },
    quorum::{Answer, ServerDoor, newest, open_all},
    random::SharedRng,
    remote::{Identity, RemoteError, Session},
};
use backstop_protocol::{api::AccountState, clock::Clock, id::InstanceId};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Time and randomness of the process.
#[derive(Clone)]
pub struct Ambient {
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: SharedRng,
}

/// Why a node's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file in `backstop/`.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// lightningd's own configuration.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The node keeps its database where no hook tells what is written.
    #[error(
        "this node keeps its database in PostgreSQL, for which lightningd tells no plugin what it writes: it cannot be \
         backed up by Backstop. Use PostgreSQL's own synchronous replication, or SQLite"
    )]
    Postgres,
    /// Files of two nodes are mixed.
    #[error(
        "the key file belongs to another node or network than the configuration: run `backstop setup` again"
    )]
    Mixed,
}

/// One node on one network, as this directory has it.
pub struct Node {
    /// `<lightning-dir>/<network>`.
    pub network_dir: PathBuf,
    /// `backstop/` in it.
    pub directory: Directory,
    /// lightningd's files.
    pub files: NodeDir,
    /// Its configuration.
    pub config: Config,
    /// Its name as a writer.
    pub instance: InstanceId,
    /// The epoch at which it took the node over, by a person's word; 0 where it never did.
    pub taken_at: u64,
    /// Its keys.
    pub keys: Arc<Keys>,
    /// Opens sessions.
    pub identity: Arc<Identity>,
    /// Time and randomness.
    pub ambient: Ambient,
}

impl Node {
    /// Reads everything. A wrong file is a hard error: a node is better off stopped than unprotected.
    pub fn load(network_dir: &Path, ambient: Ambient) -> Result<Self, NodeError> {
        let directory = Directory::in_network_dir(network_dir);
        let config = directory.config()?;
        let files = NodeDir::of_net_dir(network_dir)?;
        if config.database.is_none() && *files.wallet() == Wallet::Postgres {
            return Err(NodeError::Postgres);
        }
        let instance = directory.instance()?;
        let taken_at = directory.taken_at()?;
        let key_file = KeyFile::read(&directory.key_path())?;
        if key_file.node != config.node || key_file.network != config.network {
            return Err(NodeError::Mixed);
        }
        let keys = Arc::new(Keys::derive(&key_file.root));
        let identity = Identity {
            keys: keys.clone(),
            node: config.node,
            network: config.network,
            grant: Some(config.grant.clone()),
            invite: None,
        };
        Ok(Self {
            network_dir: network_dir.to_owned(),
            directory,
            files,
            config,
            instance,
            taken_at,
            keys,
            identity: Arc::new(identity),
            ambient,
        })
    }

    /// The node's database: where `config.toml` says, else where lightningd's configuration does.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        match (&self.config.database, self.files.wallet()) {
            (Some(path), _) => self.network_dir.join(path),
            (None, Wallet::Sqlite(path)) => path.clone(),
            (None, Wallet::Postgres) => self.network_dir.join("lightningd.sqlite3"),
        }
    }

    /// Names this machine and the lightning-dir, for those who ask which one took the node over.
    #[must_use]
    pub fn machine(&self) -> String {
        machine(self.files.base())
    }

    /// The way to each of the servers, in the order of the configuration.
    #[must_use]
    pub fn doors(&self) -> Vec<ServerDoor> {
        let servers = self.config.servers.iter().cloned();
        servers.map(|server| self.door(server)).collect()
    }

    /// The way to a server.
    #[must_use]
    pub fn door(&self, server: ServerConfig) -> ServerDoor {
        ServerDoor {
            server,
            connect: self.config.connect(),
            identity: Arc::clone(&self.identity),
            ambient: self.ambient.clone(),
        }
    }

    /// Opens a session for reading with the server that holds the newest head: of so many that one of them has the last
    /// acknowledged record.
    pub async fn open_reader(&self) -> Result<(Session, AccountState), RemoteError> {
        let answers = self.open_readers().await;
        let enough = self.config.rule().to_take_over();
        newest_of(answers, enough)
    }

    /// The same at every server: what each answered.
    pub async fn open_readers(&self) -> Vec<Answer<Session>> {
        let doors = self.doors().into_iter().enumerate();
        let readers = doors.map(|(at, door)| (at, door, None));
        open_all(readers, self.config.rule().to_take_over()).await
    }
}

/// Of these answers the session with the newest head, where at least `enough` are sessions.
pub fn newest_of<S>(answers: Vec<Answer<S>>, enough: usize) -> Result<(S, AccountState), RemoteError> {
    let (mut opened, mut failed) = (Vec::new(), None);
    for answer in answers {
        match answer.opened {
            Ok(open) => opened.push(open),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let best = newest(opened.iter().map(|(_, account)| account).enumerate()).map(|(best, _)| best);
    match best.filter(|_| opened.len() >= enough) {
        Some(best) => Ok(opened.swap_remove(best)),
        None => Err(failed.unwrap_or(RemoteError::Key)),
    }
}
