//! Who the node is, and what its key signs for Backstop: from `hsm_secret`, or from the running node.

use super::Args;
use crate::{
    cli::prompt::{self, Terminal, Wanted},
    cln::{
        HsmSecret, NodeDir, Rpc,
        derive::root_info,
        hsm_secret::HsmSecretError,
        locate::{Wallet, wallet},
    },
    keys::{KeyFile, Keys, Root},
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::{
    grant::{Grant, Scope, SignedGrant},
    id::{Network, NodeId},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// The serial of the plugin's own grant, which does not expire; later grants count up from it.
const SERIAL: u64 = 1;
const PASSPHRASE: Wanted = Wanted {
    what: "the passphrase of hsm_secret",
    option: "--passphrase-fd",
};

/// A node that lets itself be backed up.
pub(super) struct Identity {
    pub(super) node: NodeId,
    pub(super) network: Network,
    pub(super) root: Root,
    /// For the access key of `root`; checked.
    pub(super) grant: SignedGrant,
    /// The database, where it is not `lightningd.sqlite3` in the network's directory.
    pub(super) database: Option<PathBuf>,
}

impl Identity {
    pub(super) fn key_file(&self, generation: u32) -> KeyFile {
        KeyFile {
            node: self.node,
            network: self.network,
            generation,
            root: Root::from_bytes(*self.root.expose_bytes()),
        }
    }
}

/// Finds out as `args` say; asks for a passphrase where one is needed.
pub(super) fn find(args: &Args, node: &NodeDir, terminal: &mut dyn Terminal) -> anyhow::Result<Identity> {
    if args.from_rpc {
        from_rpc(args, node)
    } else {
        from_file(args, node, terminal)
    }
}

fn from_file(args: &Args, node: &NodeDir, terminal: &mut dyn Terminal) -> anyhow::Result<Identity> {
    let file = match HsmSecret::read(&node.hsm_secret()) {
        Err(HsmSecretError::Io { path, reason }) if reason.kind() == io::ErrorKind::NotFound => bail!(
            "there is no {}: where a signer holds the secret, start the node and use --from-rpc; else check \
             --lightning-dir and --network",
            path.display()
        ),
        other => other?,
    };
    let passphrase = if file.needs_passphrase() || args.passphrase_fd.is_some() {
        Some(prompt::secret(terminal, PASSPHRASE, args.passphrase_fd)?)
    } else {
        None
    };
    let secret = file.unlock(passphrase.as_ref().map(|passphrase| passphrase.as_str()))?;
    let root = secret.backstop_root(node.network(), args.generation);
    let key = secret.node_key();
    let grant = grant(&root, key.node_id(), node.network());
    Ok(Identity {
        node: key.node_id(),
        network: node.network(),
        grant: key.sign_grant(&grant),
        root,
        database: database(node, node.wallet()),
    })
}

fn from_rpc(args: &Args, node: &NodeDir) -> anyhow::Result<Identity> {
    let rpc = Rpc::new(node.rpc());
    let info = rpc.getinfo()?;
    let network = node.network();
    ensure!(
        info.network == network.as_str(),
        "the node that answers at {} is on {}, not on {network}: check --network",
        node.rpc().display(),
        info.network
    );
    ensure!(
        !is_elsewhere(&info.net_dir, &node.net()),
        "the node that answers at {} lives in {}, not in {}: check --lightning-dir",
        node.rpc().display(),
        info.net_dir.display(),
        node.net().display()
    );
    // Unlike the configuration files, lightningd knows its command line too.
    let configured = rpc.listconfigs("wallet")?;
    let wallet = configured
        .last()
        .map_or_else(|| node.wallet().clone(), |dsn| wallet(dsn, &node.net()));
    ensure!(
        wallet != Wallet::Postgres,
        "this node keeps its database in PostgreSQL: lightningd calls no db_write hook there, so Backstop cannot \
         protect it. Use PostgreSQL's own replication"
    );

    let made = rpc.makesecret(root_info(network, args.generation).as_bytes())?;
    let root = Root::from_bytes(*made);
    let grant = grant(&root, info.id, network);
    let text = grant.to_string();
    let signature = rpc.signmessage(&text)?;
    let signed = SignedGrant { text, signature };
    // A signer that signs with another key than that of the node's id would be noticed only by the server.
    let read = signed
        .verify()
        .context("lightningd signed something that no server would take")?;
    ensure!(
        read == grant,
        "lightningd signed another grant than it was asked to"
    );
    Ok(Identity {
        node: info.id,
        network,
        root,
        grant: signed,
        database: database(node, &wallet),
    })
}

fn grant(root: &Root, node: NodeId, network: Network) -> Grant {
    Grant {
        access_key: Keys::derive(root).access.access_key(),
        scope: Scope::Append,
        node,
        network,
        serial: SERIAL,
        expires_at: None,
    }
}

fn database(node: &NodeDir, wallet: &Wallet) -> Option<PathBuf> {
    match wallet {
        Wallet::Sqlite(path) if *path != node.net().join("lightningd.sqlite3") => Some(path.clone()),
        _ => None,
    }
}

/// Whether both exist here and differ. In a container the node may know its directory by a name of its own.
fn is_elsewhere(told: &Path, looked: &Path) -> bool {
    match (told.canonicalize(), looked.canonicalize()) {
        (Ok(told), Ok(looked)) => told != looked,
        _ => false,
    }
}
