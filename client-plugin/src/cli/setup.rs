//! `backstop setup`: from a node's secret to a directory with which the plugin can start.
//!
//! In order: find the node, unlock its secret (or ask the running node), derive the keys, sign the grant, prove that
//! the server is there and takes it, write `backstop/` with the configuration last, and say what to do next. Nothing
//! is written before the server has answered, and what an earlier setup wrote is never changed.

mod ahead;
mod identity;
mod place;
mod server;
mod several;

use super::{
    Here, NodeArgs,
    prompt::{OwnTerminal, Terminal},
};
use crate::{
    cln::{NodeDir, derive::FIRST_GENERATION},
    directory::{
        Config, Directory, DirectoryError, OutageConfig, OutagePolicy, RequireConfig, ServerConfig,
        ShadowConfig,
    },
    files::FileName,
    keys::{KeyFile, RecoveryKey, key_file::KeyFileError},
    node::Ambient,
    quorum::Rule,
    random::SharedRng,
    remote::{Connect, Server},
};
use anyhow::ensure;
use backstop_protocol::{
    clock::Clock,
    id::{InstanceId, ServerKey},
};
use identity::Identity;
use server::{Proof, Proved};
use std::{
    io::{IsTerminal as _, Write},
    path::PathBuf,
    sync::Arc,
};

/// Prepare a node for its backup: derive its keys, pin the server, write DIR/NET/backstop.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop setup --server https://backup.example.org --network bitcoin
  backstop setup --server https://backup.example.org --network bitcoin --from-rpc
  backstop setup --server https://a.example --server https://b.example --server https://c.example --require majority
  backstop setup --server http://abcdef.onion --proxy socks5h://127.0.0.1:9050 --network bitcoin")]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// URL of the server that is to keep the backup; several times for several servers.
    #[arg(long, value_name = "URL", required = true)]
    server: Vec<String>,
    /// Of several servers: whether `all` must hold each update before the node goes on, or a `majority`. With all, the node waits as soon
    /// as one is away, and a single one suffices to restore; with a majority of three, one may be away, and two must be there to
    /// restore.
    #[arg(long, value_name = "WHICH")]
    require: Option<RequireConfig>,
    /// What the node does while too few servers answer: `stall`, wait for them and then halt; or `spool`, go on for some minutes and keep
    /// its updates on this machine's disk alone meanwhile. With spool, whoever loses that disk in that time loses those updates, and
    /// channel funds may be lost with them; a restore within that time needs your word that this machine is off.
    #[arg(long, value_name = "WHAT")]
    outage: Option<OutagePolicy>,
    /// Ask the running node instead of reading `hsm_secret`: for remote signers, and where a passphrase is not to be
    /// typed here.
    #[arg(long)]
    from_rpc: bool,
    /// The server's key as its operator told you, once for each `--server` and in their order; without it the key that a server
    /// shows now is pinned.
    #[arg(long, value_name = "HEX")]
    server_key: Vec<ServerKey>,
    /// Read the passphrase of `hsm_secret` from this open file descriptor instead of asking for it.
    #[arg(long, value_name = "N", conflicts_with = "from_rpc")]
    passphrase_fd: Option<u32>,
    /// Which of the node's roots to use; a higher one gives new keys where a key file was stolen.
    #[arg(long, value_name = "N", default_value_t = FIRST_GENERATION)]
    generation: u32,
    /// Reach the server through this SOCKS5 proxy, as in `socks5h://127.0.0.1:9050` for Tor.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Do not send the database ahead: the first start with the plugin sends it all, and lightningd waits meanwhile.
    #[arg(long)]
    no_upload: bool,
    /// The invitation that the server's operator gave you, where the server takes nobody without one. It is shown to the server
    /// now and kept nowhere.
    #[arg(long, value_name = "INVITE")]
    invite: Option<String>,
    /// Print the recovery key even where the output is no terminal, or where setup was run before.
    #[arg(long)]
    show_recovery_key: bool,
}

/// What `setup` asks of the rest of the world.
struct World<'a> {
    here: &'a Here,
    terminal: &'a mut dyn Terminal,
    /// Whether a person reads the output, so that a secret on it reaches nobody else.
    watched: bool,
    out: &'a mut dyn Write,
    rng: SharedRng,
    /// Opens a session with the server as this identity.
    prove_server: &'a mut dyn FnMut(&Proof, &Identity) -> anyhow::Result<Proved>,
}

/// Everything that is to be written, once all of it is proved.
struct Plan {
    identity: Identity,
    generation: u32,
    database: Option<PathBuf>,
    proxy: Option<String>,
    servers: Vec<ServerConfig>,
    require: RequireConfig,
    outage: OutagePolicy,
}

/// Runs the command at the program's own terminal.
pub(super) fn command(args: &Args, here: &Here, clock: Arc<dyn Clock>, rng: SharedRng) -> anyhow::Result<()> {
    let ambient = Ambient {
        clock: clock.clone(),
        rng: rng.clone(),
    };
    let prove_rng = rng.clone();
    let mut prove_server =
        move |proof: &Proof, identity: &Identity| server::prove(proof, identity, &clock, &prove_rng);
    let stdout = std::io::stdout();
    let watched = stdout.is_terminal();
    let network_dir = setup(
        args,
        &mut World {
            here,
            terminal: &mut OwnTerminal,
            watched,
            out: &mut stdout.lock(),
            rng,
            prove_server: &mut prove_server,
        },
    )?;
    if !args.no_upload {
        ahead::send(&network_dir, ambient, &mut stdout.lock())?;
    }
    Ok(())
}

/// Returns the network's directory, which is set up now.
fn setup(args: &Args, world: &mut World<'_>) -> anyhow::Result<PathBuf> {
    let node = args.node.find(world.here)?;
    place::check(&node)?;
    let directory = Directory::in_network_dir(&node.net());
    let before = directory.exists().then(|| directory.config()).transpose()?;

    let chosen = before.as_ref().map(|before| before.outage.policy);
    ensure!(
        args.outage.is_none() || chosen.is_none() || args.outage == chosen,
        "this node is set up with another outage policy. Nothing was changed. Change `policy` under [outage] in {}/config.toml, and \
         restart lightningd",
        directory.path().display()
    );
    let proxy = args.proxy.clone().or_else(|| before.as_ref()?.proxy.clone());
    let connect = Connect::through(proxy.clone());
    let require = several::require(args)?;
    let mut urls = Vec::new();
    for url in &args.server {
        urls.push(Server::new(url, &connect)?.url().to_owned());
    }
    let pinned = match &before {
        Some(before) => several::known(before, &urls, args, &directory)?,
        None if args.server_key.is_empty() => vec![None; urls.len()],
        None => args.server_key.iter().copied().map(Some).collect(),
    };

    let identity = identity::find(args, &node, world.terminal)?;
    check_key(&directory, before.as_ref(), &identity)?;
    let (mut servers, mut records) = (Vec::new(), 0);
    for (url, pinned) in urls.into_iter().zip(pinned) {
        let proof = Proof {
            url,
            connect: connect.clone(),
            pinned,
            invite: args.invite.clone(),
        };
        let proved = (world.prove_server)(&proof, &identity)?;
        let (url, key) = (proof.url, proved.key);
        ensure!(
            pinned.is_none_or(|pinned| pinned == key),
            "{url} has the key {key}, but {} was expected: this is another server, or somebody in between. Nothing was \
             changed; ask its operator",
            pinned.map_or_else(String::new, |pinned| pinned.to_string()),
        );
        records = records.max(proved.records);
        servers.push(ServerConfig { url, key });
    }

    let plan = Plan {
        database: identity.database.clone(),
        identity,
        generation: args.generation,
        proxy,
        servers,
        require,
        outage: args.outage.unwrap_or_default(),
    };
    let written = write(&directory, &plan, before.is_some(), &world.rng)?;
    report(args, &node, &plan, written, world)?;
    if written == Written::Everything && records > 0 {
        writeln!(
            world.out,
            "\nCareful: a server holds a backup of this node already, {records} records long, which another \
             lightning-dir wrote.\nTo get that node back, use `{} restore` into an empty directory instead of starting \
             this one.",
            world.here.program.display()
        )?;
    }
    Ok(node.net())
}

/// Refuses where an earlier setup, even one that was cut off, was for another node or another root.
fn check_key(directory: &Directory, before: Option<&Config>, identity: &Identity) -> anyhow::Result<()> {
    let key = match KeyFile::read(&directory.key_path()) {
        Ok(key) => Some(key),
        Err(KeyFileError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let node = before
        .map(|before| before.node)
        .or_else(|| key.as_ref().map(|key| key.node));
    if let Some(node) = node {
        ensure!(
            node == identity.node,
            "{} is set up for node {node}, and this secret is that of node {}. Nothing was changed. {}",
            directory.path().display(),
            identity.node,
            start_over(directory)
        );
    }
    // The text names node, network and access key, and so the root.
    let same_grant = before.is_none_or(|before| before.grant.text == identity.grant.text);
    let same_root = key.is_none_or(|key| key.root.is(&identity.root));
    ensure!(
        same_grant && same_root,
        "{} is set up with another root of this node: another --generation, or words that an older node kept in part. \
         Nothing was changed. {}",
        directory.path().display(),
        start_over(directory)
    );
    Ok(())
}

fn start_over(directory: &Directory) -> String {
    let path = directory.path().display();
    format!("To start over, stop lightningd, run `mv {path} {path}.old` and then setup again")
}

/// What was there before, and what is now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Everything,
    Key,
    Nothing,
}

/// The configuration goes last: where it is, everything is.
fn write(directory: &Directory, plan: &Plan, configured: bool, rng: &SharedRng) -> anyhow::Result<Written> {
    let Plan {
        identity,
        generation,
        database,
        proxy,
        servers,
        require,
        outage,
    } = plan;
    let key_path = directory.key_path();
    let has_key = key_path.try_exists().unwrap_or(true);
    if configured && has_key {
        return Ok(Written::Nothing);
    }
    directory.create()?;
    if !has_key {
        identity.key_file(*generation).write(&key_path)?;
    }
    if configured {
        return Ok(Written::Key);
    }
    if let Err(DirectoryError::Missing(_)) = directory.instance() {
        directory.write_instance(InstanceId(rng.array()))?;
    }
    directory.write_config(&Config {
        version: 1,
        node: identity.node,
        network: identity.network,
        require: *require,
        proxy: proxy.clone(),
        database: database.clone(),
        files: FileName::defaults(),
        outage: OutageConfig {
            policy: *outage,
            ..OutageConfig::through(proxy.as_deref())
        },
        shadow: ShadowConfig::default(),
        grant: identity.grant.clone(),
        servers: servers.clone(),
    })?;
    Ok(Written::Everything)
}

fn report(
    args: &Args,
    node: &NodeDir,
    plan: &Plan,
    written: Written,
    world: &mut World<'_>,
) -> anyhow::Result<()> {
    let Plan {
        identity, servers, ..
    } = plan;
    let path = node.backstop();
    let path = path.display();
    let out = &mut *world.out;
    writeln!(out, "Node    {} on {}", identity.node, identity.network)?;
    for server in servers {
        writeln!(
            out,
            "Server  {}, which answers and takes this node's grant",
            server.url
        )?;
        writeln!(out, "        its key is {}", server.key)?;
        if written == Written::Everything && args.server_key.is_empty() {
            writeln!(
                out,
                "        and is pinned from now on; its operator can tell you whether it is the right one"
            )?;
        }
    }
    if let [_, _, ..] = servers.as_slice() {
        let Rule { servers, needed } = Rule::new(plan.require.into(), servers.len());
        writeln!(
            out,
            "Rule    {needed} of {servers} must hold each update before the node goes on; a restore needs {} of them",
            Rule { servers, needed }.to_take_over()
        )?;
    }
    match written {
        Written::Everything => writeln!(out, "Wrote   {path}")?,
        Written::Key => writeln!(
            out,
            "Wrote   {path}/key, which was missing; nothing else was changed"
        )?,
        Written::Nothing => writeln!(
            out,
            "        {path} was set up like this before; nothing was changed"
        )?,
    }
    let first = written == Written::Everything;
    if args.show_recovery_key || first && world.watched {
        let key = RecoveryKey::to_text(identity.network, &identity.root);
        writeln!(
            out,
            "\nThe recovery key. Write it down: with it alone the backup can be restored, where hsm_secret and its \
             words are\nlost or with a signer. Whoever has it can read the backup; it cannot spend.\n\n    {}",
            *key
        )?;
    } else if first {
        writeln!(
            out,
            "\nThe recovery key is not shown, because this is no terminal; setup --show-recovery-key shows it."
        )?;
    }
    writeln!(
        out,
        "\nNext:\n  1. add this line to {config}:\n\n         important-plugin={program}\n\n  2. restart lightningd;\n  \
         3. see whether it is protected: {program} status --lightning-dir {base} --network {network}",
        config = node.base().join("config").display(),
        program = world.here.program.display(),
        base = node.base().display(),
        network = node.network(),
    )?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests;
