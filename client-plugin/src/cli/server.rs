//! `backstop server`: the servers of a node that is set up: which they are, and other ones (SPEC 8.7).

mod change;
mod copy;
mod list;
mod revoked;
mod wanted;

use super::{Here, NodeArgs, wait::wait};
use crate::{directory::RequireConfig, node::Ambient};
use backstop_protocol::id::ServerKey;
use std::io::{self, Write as _};

/// The servers that keep this node's backup: which they are, and other ones.
///
/// A change is valid under the old rule and the new one at once: the backup itself says it at enough of the old servers and of the
/// new ones. lightningd must be stopped for the end of it; what takes long is done before, while it runs. Typed again after it was
/// cut off anywhere, the same command does the rest.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:

  backstop server list --network bitcoin
  backstop server add https://d.example --require majority --network bitcoin
  backstop server replace https://a.example https://d.example --network bitcoin
  backstop server remove https://a.example --network bitcoin
  backstop server require majority --network bitcoin")]
pub(super) enum Command {
    /// Show the servers, what each holds, and how many must hold an update.
    List(List),
    /// Let one more server keep the backup.
    Add(Add),
    /// Go on without these servers. One that answers is told, so that a restore that is pointed at it finds the others.
    Remove(Remove),
    /// Put another server in the place of one, in one step. The old one may be gone.
    Replace(Replace),
    /// Change how many of the servers must hold each update, and with that how many a restore needs.
    Require(Require),
}

/// Options of `list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop server list --network bitcoin
  backstop server list --network bitcoin --json")]
pub(super) struct List {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Options of `add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:

  backstop server add https://d.example --require majority --network bitcoin")]
pub(super) struct Add {
    /// URL of the new server.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    new: New,
    #[command(flatten)]
    rule: Rule,
}

/// Options of `remove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop server remove https://a.example --network bitcoin
  backstop server remove https://a.example https://b.example --gone-for-good --network bitcoin")]
pub(super) struct Remove {
    /// URLs of the servers, as `list` shows them.
    #[arg(value_name = "URL", required = true)]
    urls: Vec<String>,
    #[command(flatten)]
    rule: Rule,
}

/// Options of `replace`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:

  backstop server replace https://a.example https://d.example --network bitcoin")]
pub(super) struct Replace {
    /// URL of the server that goes, as `list` shows it.
    #[arg(value_name = "OLD")]
    old: String,
    /// URL of the one that comes.
    #[arg(value_name = "NEW")]
    url: String,
    #[command(flatten)]
    new: New,
    #[command(flatten)]
    rule: Rule,
}

/// Options of `require`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:

  backstop server require majority --network bitcoin")]
pub(super) struct Require {
    /// `all`: the node waits as soon as one of them is away, and any one suffices to restore. `majority`: some may be away, and as many
    /// more must be there to restore.
    #[arg(value_name = "WHICH")]
    which: RequireConfig,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    word: Word,
}

/// What concerns a server that comes.
#[derive(Debug, Default, clap::Args)]
struct New {
    /// The new server's key as its operator told you; without it the key that it shows now is pinned.
    #[arg(long, value_name = "HEX")]
    server_key: Option<ServerKey>,
    /// The invitation that the new server's operator gave you, where it takes nobody without one.
    #[arg(long, value_name = "INVITE")]
    invite: Option<String>,
}

/// What every change of the list takes.
#[derive(Debug, clap::Args)]
struct Rule {
    #[command(flatten)]
    node: NodeArgs,
    /// How many servers must hold each update from then on: `all` or a `majority` [default: as before].
    #[arg(long, value_name = "WHICH")]
    require: Option<RequireConfig>,
    #[command(flatten)]
    word: Word,
}

/// What a person may say where servers are silent.
#[derive(Debug, clap::Args)]
struct Word {
    /// Your word that the servers which do not answer are gone for good and that no other machine runs this node: go on without
    /// them, although fewer answer than the rule asks for. What only they hold is lost.
    #[arg(long)]
    gone_for_good: bool,
}

/// Runs the command.
pub(super) fn command(command: &Command, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let args = match command {
        Command::List(list) => &list.node,
        Command::Add(Add { rule, .. })
        | Command::Remove(Remove { rule, .. })
        | Command::Replace(Replace { rule, .. }) => &rule.node,
        Command::Require(require) => &require.node,
    };
    let node = args.load(here, ambient)?;
    let mut out = io::stdout().lock();
    wait(async {
        match command {
            Command::List(args) => list::list(&node, args.json, &mut out).await,
            Command::Add(Add { new, rule, .. }) | Command::Replace(Replace { new, rule, .. }) => {
                let wanted = wanted::wanted(&node, command).await?;
                let gone = rule.word.gone_for_good;
                let change = change::Change::new(&node, wanted, gone, new.invite.clone());
                change.make(&mut out).await
            }
            Command::Require(Require { which, .. })
                if *which == node.config.require && node.directory.pending()?.is_none() =>
            {
                Ok(writeln!(out, "That is this node's rule: nothing was changed.")?)
            }
            Command::Remove(Remove {
                rule: Rule { word, .. },
                ..
            })
            | Command::Require(Require { word, .. }) => {
                let wanted = wanted::wanted(&node, command).await?;
                let change = change::Change::new(&node, wanted, word.gone_for_good, None);
                change.make(&mut out).await
            }
        }
    })
}
