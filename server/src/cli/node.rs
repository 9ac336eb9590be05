//! `backstop-server node …`: an operator's word on nodes, while the server runs.

mod listed;

use super::{office::Place, print, units};
use crate::{
    Config,
    amounts::{distance, size},
    data_dir::database_in,
    default_data_dir,
    store::{Account, Act, Allowed, Office, RemovalBy, Terms, UNLIMITED, postgres, sqlite},
};
use anyhow::Context as _;
use backstop_protocol::{
    clock::{Clock as _, SystemClock, UnixMillis},
    id::{Network, NodeId},
};
use clap::{Args, Subcommand};
use listed::{AllowedJson, ListJson, Listed};
use std::{fmt::Write as _, path::PathBuf, time::Duration};

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List all nodes: what they use, when they last wrote, what is the matter with them; and those that may come.
    #[command(after_help = "Examples:

  backstop-server node list
  backstop-server node list --json")]
    List(List),
    /// Show one node.
    #[command(after_help = "Example:

  backstop-server node show 02f5d2c6b1c5a8b9e9b6f3a4d7c8e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3")]
    Show(Show),
    /// Let a node come without an invitation; under --registration allowlist, no other comes.
    #[command(after_help = "Example:

  backstop-server node allow 02f5d2c6b1c5a8b9e9b6f3a4d7c8e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3 --with-quota 10GiB")]
    Allow(Allow),
    /// Ask for the removal of everything of a node. It begins after a delay, until which its backup goes on as before and
    /// `node restore` takes it back.
    #[command(after_help = "Example:

  backstop-server node remove 02f5d2c6b1c5a8b9e9b6f3a4d7c8e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3")]
    Remove(Remove),
    /// Take the removal of a node back.
    #[command(after_help = "Example:

  backstop-server node restore 02f5d2c6b1c5a8b9e9b6f3a4d7c8e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3")]
    Restore(Show),
    /// Give a node a quota of its own, or take it away.
    #[command(after_help = "Examples:

  backstop-server node quota 02f5d2c6b1c5a8b9e9b6f3a4d7c8e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3 10GiB
  backstop-server node quota 02f5d2c6b1c5a8b9e9b6f3a4d7c8e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3 none")]
    Quota(Quota),
    /// Order a roll-up: with its next record the node is asked for a new snapshot, whatever the policy says. The server
    /// may go on running.
    #[command(after_help = "Example:

  backstop-server node rollup 02f5d2c6b1c5a8b9e9b6f3a4d7c8e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3")]
    Rollup(Show),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    silence: Silence,
    #[command(flatten)]
    place: Place,
}

/// When a node is called silent.
#[derive(Debug, Args)]
struct Silence {
    /// A node is silent after this time without a record, or earlier by its own rhythm [default: as for serve].
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = units::time, hide_default_value = true)]
    silent_after: Duration,
}

impl Silence {
    fn terms(&self) -> Terms {
        Terms {
            silent_after: self.silent_after,
            ..Terms::default()
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The node's id, 66 hex digits.
    #[arg(value_name = "NODE")]
    node: NodeId,
    /// The node's network; needed where the node is here on several.
    #[arg(long, value_name = "NET")]
    network: Option<Network>,
    #[command(flatten)]
    silence: Silence,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Allow {
    /// The node's id, 66 hex digits.
    #[arg(value_name = "NODE")]
    node: NodeId,
    /// The network on which it may come.
    #[arg(long, value_name = "NET", default_value_t = Network::Bitcoin)]
    network: Network,
    /// The quota that it is to have; without it, the server's.
    #[arg(long = "with-quota", value_name = "SIZE", value_parser = units::bytes)]
    quota: Option<u64>,
    /// Let it come no more. What it has here already is not touched.
    #[arg(long, conflicts_with = "quota")]
    undo: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    node: Show,
    /// When the removal begins from now on [default: as for serve].
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = units::time)]
    removal_delay: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Quota {
    #[command(flatten)]
    node: Show,
    /// How many bytes it may use, like 5GiB; `none` for no bounds, `default` for what the server gives to all.
    #[arg(value_name = "SIZE", value_parser = quota)]
    quota: NewQuota,
}

/// A quota as it is typed.
#[derive(Clone, Copy, Debug)]
struct NewQuota(Option<u64>);

fn quota(text: &str) -> Result<NewQuota, String> {
    match text {
        "none" => Ok(NewQuota(Some(UNLIMITED))),
        "default" => Ok(NewQuota(None)),
        size => units::bytes(size).map(|bytes| NewQuota(Some(bytes.min(UNLIMITED)))),
    }
}

pub(super) async fn run(command: NodeCommand) -> anyhow::Result<()> {
    let now = SystemClock.now();
    match command {
        NodeCommand::List(List { silence, place }) => list(&place, &silence.terms(), now).await,
        NodeCommand::Show(show) => {
            let mut office = show.place.open().await?;
            let account = office.account(show.node, show.network).await?;
            office.close().await?;
            say(&show, &account, now, "")
        }
        NodeCommand::Allow(allow) => self::allow(&allow, now).await,
        NodeCommand::Remove(Remove { node, removal_delay }) => {
            let at = now.0.saturating_add(u64::try_from(removal_delay.as_millis())?);
            change(&node, now, |account| Act::Remove(account.id, UnixMillis(at))).await
        }
        NodeCommand::Restore(node) => change(&node, now, |account| Act::Restore(account.id)).await,
        NodeCommand::Quota(Quota { node, quota }) => {
            change(&node, now, |account| Act::Quota(account.id, quota.0)).await
        }
        NodeCommand::Rollup(rollup) => self::rollup(rollup, now).await,
    }
}

async fn list(place: &Place, terms: &Terms, now: UnixMillis) -> anyhow::Result<()> {
    let mut office = place.open().await?;
    let accounts = office.accounts().await?;
    let allowed = office.allowed().await?;
    office.close().await?;
    let listed = ListJson {
        nodes: accounts
            .iter()
            .map(|account| Listed::of(account, terms, now))
            .collect(),
        allowed: allowed.iter().map(AllowedJson::from).collect(),
    };
    place.say(&listed, || {
        let mut text = String::new();
        // Writing to a string does not fail.
        for node in &listed.nodes {
            let _ = writeln!(
                text,
                "{} {:8} record {:>9}  {:>12}  uses {:24} {}",
                node.node,
                node.network,
                node.seq,
                node.last(now),
                node.room(),
                node.matters(now),
            );
        }
        for allowed in &listed.allowed {
            let _ = writeln!(text, "{} {:8} may come", allowed.node, allowed.network);
        }
        if text.is_empty() {
            text.push_str("No node is here yet, and none is allowed by name.\n");
        }
        text
    })
}

/// Changes one account, and shows it as it is then.
async fn change(node: &Show, now: UnixMillis, act: impl FnOnce(&Account) -> Act) -> anyhow::Result<()> {
    let mut office: Office = node.place.open().await?;
    let account = office.account(node.node, node.network).await?;
    let act = act(&account);
    office.act(&act).await.context("nothing was changed")?;
    let account = office.account(node.node, Some(account.network)).await?;
    office.close().await?;
    say(node, &account, now, &next(&act, &account, now))
}

/// What follows from what was done.
fn next(act: &Act, account: &Account, now: UnixMillis) -> String {
    match (act, account.removal) {
        (Act::Remove(..), Some(removal)) => {
            let asked = match removal.by {
                RemovalBy::Operator => "Its removal is asked for",
                RemovalBy::Owner => "Its owner had asked for its removal before",
            };
            format!(
                "{asked}, and begins in {}. Until then its backup goes on, the node's owner sees it in `backstop \
                 status`, and this takes it back:\n  backstop-server node restore {} --network {}\nAfter that nothing of it can be \
                 restored from this server.\n",
                distance(removal.at, now),
                account.node,
                account.network
            )
        }
        (Act::Restore(_), _) => "Nothing of it will be removed.\n".to_owned(),
        _ => String::new(),
    }
}

fn say(show: &Show, account: &Account, now: UnixMillis, more: &str) -> anyhow::Result<()> {
    let (place, listed) = (&show.place, Listed::of(account, &show.silence.terms(), now));
    place.say(&listed, || {
        let none = || "none".to_owned();
        let quota = match (listed.unlimited, listed.quota) {
            (true, _) => "none: no bounds".to_owned(),
            (_, Some(quota)) => size(quota),
            _ => "the server's".to_owned(),
        };
        format!(
            "node     {} on {}\nhere     for {}\nrecord   {} of epoch {}, {}\nuses     {}, {} of it log\nquota    {quota}\n\
             invited  {}\nmatters  {}\n{more}",
            listed.node,
            listed.network,
            distance(listed.created_at, now),
            listed.seq,
            listed.epoch,
            listed.last(now),
            size(listed.used),
            size(listed.log_bytes),
            listed.invite.clone().unwrap_or_else(none),
            Some(listed.matters(now)).filter(|text| !text.is_empty()).unwrap_or_else(none),
        )
    })
}

async fn allow(allow: &Allow, now: UnixMillis) -> anyhow::Result<()> {
    let mut office = allow.place.open().await?;
    let allowed = Allowed {
        node: allow.node,
        network: allow.network,
        quota: allow.quota,
        allowed_at: now,
    };
    let act = if allow.undo {
        Act::Disallow(allow.node, allow.network)
    } else {
        Act::Allow(allowed.clone())
    };
    office
        .act(&act)
        .await
        .with_context(|| format!("{} was not allowed on {}", allow.node, allow.network))?;
    office.close().await?;
    allow.place.say(&AllowedJson::from(&allowed), || {
        let (node, network) = (allow.node, allow.network);
        if allow.undo {
            format!("{node} may not come to this server on {network} any more; what it has here stays.\n")
        } else {
            format!(
                "{node} may come to this server on {network}. Its owner runs backstop setup --server URL.\n"
            )
        }
    })
}

async fn rollup(rollup: Show, now: UnixMillis) -> anyhow::Result<()> {
    let Show {
        node, network, place, ..
    } = &rollup;
    let (node, network) = (*node, *network);
    let ordered = if let Some(url) = &place.database {
        postgres::operator::order_roll_up(url.expose(), node, network, now).await
    } else {
        let data = place.data.clone().map_or_else(default_data_dir, Ok)?;
        sqlite::operator::order_roll_up(&database_in(&data), node, network, now).await
    };
    let mut account = ordered.context("no roll-up was ordered")?;
    account.tail.ordered = true;
    if place.json {
        return say(&rollup, &account, now, "");
    }
    print(&said(&account));
    Ok(())
}

/// What will happen.
fn said(account: &Account) -> String {
    let Account {
        node, network, tail, ..
    } = account;
    let keep = Config::new(PathBuf::new()).history;
    format!(
        "A roll-up of {node} on {network} is ordered.
With its next record the node is asked for a new snapshot, which it uploads in the background while its backup goes on.
The log above its newest snapshot has {} records, {} bytes. Once the new snapshot is complete, what it supersedes stays as
long as the server's settings say (if nobody changed them, {} days and {} snapshots), never less than 24 hours.
",
        tail.records, tail.bytes, keep.days, keep.snapshots,
    )
}
