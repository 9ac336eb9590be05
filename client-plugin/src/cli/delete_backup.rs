//! `backstop delete-backup`: the owner's word that a server is to remove everything of this node, signed by the node's
//! own key, which the plugin does not have. The server waits for its delay; until then `--undo` takes it back.

use super::{
    Here, NodeArgs,
    prompt::{self, OwnTerminal, Terminal, Wanted},
    wait::wait,
    when::Stamp,
};
use crate::{
    cln::{HsmSecret, NodeDir, Rpc},
    directory::{LockError, ServerConfig},
    node::{Ambient, Node},
    quorum::Door as _,
    remote::Server,
};
use anyhow::{Context as _, bail, ensure};
use backstop_protocol::{
    id::NodeId,
    removal::{RemovalWord, SignedRemoval, Wish},
};
use std::io::{self, Write};

const PASSPHRASE: Wanted = Wanted {
    what: "the passphrase of hsm_secret",
    option: "--passphrase-fd",
};

/// Ask the server to remove everything of this node, after its delay.
///
/// Afterwards nothing can be restored from it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop delete-backup --network bitcoin                  says what it would do, and what to type
  backstop delete-backup --network bitcoin --undo
  backstop delete-backup --network bitcoin --server https://old.example --from-rpc")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Say that you mean it: the node's whole id.
    #[arg(long, value_name = "NODE", conflicts_with = "undo")]
    confirm: Option<NodeId>,
    /// Take it back, as long as the removal has not begun.
    #[arg(long)]
    undo: bool,
    /// Which server is meant, where the node has several.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Let the running node sign instead of reading `hsm_secret`.
    #[arg(long)]
    from_rpc: bool,
    /// Read the passphrase of `hsm_secret` from this open file descriptor instead of asking for it.
    #[arg(long, value_name = "N", conflicts_with = "from_rpc")]
    passphrase_fd: Option<u32>,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let node = args.node.load(here, ambient)?;
    let server = wait(meant(args, &node))?;
    if !args.undo {
        confirm(args, &node, &server)?;
    }
    let word = RemovalWord {
        wish: if args.undo { Wish::Keep } else { Wish::Remove },
        node: node.config.node,
        network: node.config.network,
        server: server.key,
        asked_at: node.ambient.clock.now(),
    };
    let signed = sign(args, &node.files, &word, &mut OwnTerminal)?;
    wait(ask(&node, server, &signed, &mut io::stdout().lock()))
}

/// The server that is meant: a removal is for one alone. It may be one that `backstop server` left behind.
async fn meant(args: &Args, node: &Node) -> anyhow::Result<ServerConfig> {
    let servers = &node.config.servers;
    let urls: Vec<_> = servers.iter().map(|server| server.url.as_str()).collect();
    match (&args.server, servers.as_slice()) {
        (None, [server]) => Ok(server.clone()),
        (None, _) => bail!(
            "this node is backed up by {}: say with --server which one is meant",
            urls.join(", ")
        ),
        (Some(url), _) => {
            let server = Server::new(url, &node.config.connect())?;
            let url = server.url().to_owned();
            if let Some(found) = servers.iter().find(|server| server.url == url) {
                return Ok(found.clone());
            }
            let key = server.key(None).await.with_context(|| {
                format!("this node is not backed up by {url}, but by {}", urls.join(", "))
            })?;
            ensure!(
                servers.iter().all(|server| server.key != key),
                "{url} is one of this node's servers under another URL: this node is backed up by {}",
                urls.join(", ")
            );
            Ok(ServerConfig { url, key })
        }
    }
}

/// A node that is still backed up there would halt one day, and nobody would know why.
fn confirm(args: &Args, node: &Node, server: &ServerConfig) -> anyhow::Result<()> {
    let (id, files) = (node.config.node, &node.files);
    let is_left = !node.config.servers.contains(server);
    ensure!(
        is_left || !matches!(node.directory.lock(), Err(LockError::Held)),
        "the plugin is backing this node up right now: stop lightningd and remove the important-plugin line of Backstop from its \
         configuration first. A node whose backup is removed while it runs halts"
    );
    match args.confirm {
        Some(confirmed) if confirmed == id => Ok(()),
        Some(other) => bail!("this directory is of node {id}, not of {other}; nothing was asked for"),
        None => bail!(
            "this asks {} to remove the whole backup of this node: after the server's delay nothing of it can be restored from \
             there, by nobody. If you mean it, type:\n  backstop delete-backup --lightning-dir {} --network {} --server {} --confirm {id}",
            server.url,
            files.base().display(),
            files.network(),
            server.url,
        ),
    }
}

fn sign(
    args: &Args,
    files: &NodeDir,
    word: &RemovalWord,
    terminal: &mut dyn Terminal,
) -> anyhow::Result<SignedRemoval> {
    let signed = if args.from_rpc {
        let text = word.to_string();
        let signature = Rpc::new(files.rpc()).signmessage(&text)?;
        SignedRemoval { text, signature }
    } else {
        let file = HsmSecret::read(&files.hsm_secret())?;
        let passphrase = if file.needs_passphrase() || args.passphrase_fd.is_some() {
            Some(prompt::secret(terminal, PASSPHRASE, args.passphrase_fd)?)
        } else {
            None
        };
        let secret = file.unlock(passphrase.as_ref().map(|passphrase| passphrase.as_str()))?;
        secret.node_key().sign_removal(word)
    };
    ensure!(
        signed.verify().is_ok_and(|signer| signer == *word),
        "the key here is not the one of node {}: no server would hear it",
        word.node
    );
    Ok(signed)
}

async fn ask(
    node: &Node,
    server: ServerConfig,
    signed: &SignedRemoval,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (session, _) = node.door(server).open(None).await?;
    let account = session.ask_removal(signed).await?;
    match account.removal_at {
        Some(at) => writeln!(
            out,
            "{} removes everything of this node from {} on. Until then its backup stays as it is, and this takes it back:\n  \
             backstop delete-backup --lightning-dir {} --network {} --server {} --undo",
            session.url(),
            Stamp(at),
            node.files.base().display(),
            node.files.network(),
            session.url(),
        )?,
        None => writeln!(out, "{} keeps the backup of this node.", session.url())?,
    }
    Ok(())
}
