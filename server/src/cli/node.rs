//! `backstop-server node …`: an operator's word on nodes, while the server runs.

use super::{
    office::{Place, distance, size},
    print, units,
};
use crate::{
    Config,
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
use serde::Serialize;
use std::{fmt::Write as _, path::PathBuf, time::Duration};

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List all nodes: what they use, when they last wrote, what is the matter with them; and those that may come.
    List(List),
    /// Show one node.
    Show(Show),
    /// Let a node come without an invitation; under --registration allowlist, no other comes.
    Allow(Allow),
    /// Ask for the removal of everything of a node. It begins after a delay, until which its backup goes on as before and
    /// `node restore` takes it back.
    Remove(Remove),
    /// Take the removal of a node back.
    Restore(Show),
    /// Give a node a quota of its own, or take it away.
    Quota(Quota),
    /// Order a roll-up: with its next record the node is asked for a new snapshot, whatever the policy says. The server
    /// may go on running.
    Rollup(Show),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
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

/// A node as it is listed. Members are only ever added.
#[derive(Debug, Serialize)]
struct Listed {
    node: NodeId,
    network: Network,
    created_at: UnixMillis,
    epoch: u64,
    seq: u64,
    last_record_at: Option<UnixMillis>,
    silent_since: Option<UnixMillis>,
    log_bytes: u64,
    used: u64,
    /// Its own; `null` where the server's counts, or where it has no bounds.
    quota: Option<u64>,
    unlimited: bool,
    invite: Option<String>,
    held_since: Option<UnixMillis>,
    removal_at: Option<UnixMillis>,
    removal_by: Option<&'static str>,
    roll_up_ordered: bool,
}

impl Listed {
    fn of(account: &Account, now: UnixMillis) -> Self {
        Self {
            node: account.node,
            network: account.network,
            created_at: account.created_at,
            epoch: account.epoch(),
            seq: account.head.seq,
            last_record_at: account.head_received_at,
            silent_since: account.silent_since(&Terms::default(), now),
            log_bytes: account.log_bytes,
            used: account.used(),
            quota: account.quota.filter(|quota| *quota < UNLIMITED),
            unlimited: account.quota.is_some_and(|quota| quota >= UNLIMITED),
            invite: account.invite.map(|invite| invite.to_string()),
            held_since: account.held_since,
            removal_at: account.removal_at(),
            removal_by: account.removal.map(|removal| removal.by.as_str()),
            roll_up_ordered: account.tail.ordered,
        }
    }

    /// What is the matter with it, in a few words.
    fn matters(&self, now: UnixMillis) -> String {
        let mut matters = Vec::new();
        if let Some(since) = self.silent_since {
            matters.push(format!("silent for {}", distance(since, now)));
        }
        if self.held_since.is_some() {
            matters.push("held: a proof failed".to_owned());
        }
        if let Some(at) = self.removal_at {
            matters.push(if at > now {
                format!("to be removed in {}", distance(at, now))
            } else {
                "being removed".to_owned()
            });
        }
        matters.join(", ")
    }

    fn room(&self) -> String {
        match self.quota {
            Some(quota) => format!("{} of {}", size(self.used), size(quota)),
            None => size(self.used),
        }
    }

    fn last(&self, now: UnixMillis) -> String {
        let ago = |at| format!("{} ago", distance(at, now));
        self.last_record_at.map_or_else(|| "never".to_owned(), ago)
    }
}

#[derive(Debug, Serialize)]
struct AllowedJson {
    node: NodeId,
    network: Network,
    quota: Option<u64>,
    allowed_at: UnixMillis,
}

impl From<&Allowed> for AllowedJson {
    fn from(allowed: &Allowed) -> Self {
        Self {
            node: allowed.node,
            network: allowed.network,
            quota: allowed.quota,
            allowed_at: allowed.allowed_at,
        }
    }
}

#[derive(Debug, Serialize)]
struct ListJson {
    nodes: Vec<Listed>,
    allowed: Vec<AllowedJson>,
}

pub(super) async fn run(command: NodeCommand) -> anyhow::Result<()> {
    let now = SystemClock.now();
    match command {
        NodeCommand::List(List { place }) => list(&place, now).await,
        NodeCommand::Show(show) => {
            let mut office = show.place.open().await?;
            let account = office.account(show.node, show.network).await?;
            office.close().await?;
            say(&show.place, &account, now, "")
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

async fn list(place: &Place, now: UnixMillis) -> anyhow::Result<()> {
    let mut office = place.open().await?;
    let accounts = office.accounts().await?;
    let allowed = office.allowed().await?;
    office.close().await?;
    let listed = ListJson {
        nodes: accounts.iter().map(|account| Listed::of(account, now)).collect(),
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
    say(&node.place, &account, now, &next(&act, &account, now))
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

fn say(place: &Place, account: &Account, now: UnixMillis, more: &str) -> anyhow::Result<()> {
    let listed = Listed::of(account, now);
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
    let Show { node, network, place } = rollup;
    let ordered = if let Some(url) = &place.database {
        postgres::operator::order_roll_up(url.expose(), node, network, now).await
    } else {
        let data = place.data.clone().map_or_else(default_data_dir, Ok)?;
        sqlite::operator::order_roll_up(&database_in(&data), node, network, now).await
    };
    let mut account = ordered.context("no roll-up was ordered")?;
    account.tail.ordered = true;
    if place.json {
        return say(&place, &account, now, "");
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
