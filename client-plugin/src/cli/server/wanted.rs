//! From what was typed to the configuration that is wanted.

use super::{Add, Command, New, Remove, Replace, Require};
use crate::{
    directory::{Config, Pending, RequireConfig, ServerConfig, Stated},
    node::Node,
    remote::Server,
};
use anyhow::{Context as _, bail, ensure};

/// The configuration that differs from the node's in its servers or their rule alone, and the command that leads there.
pub(super) struct Wanted {
    /// What is to be.
    pub(super) next: Config,
    /// The command, as it is typed again.
    pub(super) typed: String,
    /// What an earlier command left behind.
    pub(super) pending: Option<Pending>,
}

/// What the command asks for. Where an earlier one was cut off, what that asked for counts as there: the same again leads to the
/// same, and its opposite back.
pub(super) async fn wanted(node: &Node, command: &Command) -> anyhow::Result<Wanted> {
    let pending = node.directory.pending()?;
    let config = &node.config;
    let (mut servers, before) = match &pending {
        Some(pending) => (pending.servers.clone(), pending.require),
        None => (config.servers.clone(), config.require),
    };
    let (known, begun) = (servers.len(), pending.is_some());
    let normal =
        |url: &str| -> anyhow::Result<String> { Ok(Server::new(url, &config.connect())?.url().to_owned()) };
    let has = |servers: &[ServerConfig], url: &str| servers.iter().any(|server| server.url == url);
    let names = || {
        let urls: Vec<_> = config.servers.iter().map(|server| server.url.as_str()).collect();
        urls.join(" and ")
    };
    let (asked, mut typed) = match command {
        Command::List(_) => bail!("nothing is to be changed"),
        Command::Add(Add { url, new, rule }) => {
            let url = normal(url)?;
            if !has(&servers, &url) {
                servers.push(comes(node, &url, new).await?);
            } else if !begun {
                bail!("{url} is one of this node's servers already");
            }
            (rule.require, format!("backstop server add {url}"))
        }
        Command::Remove(Remove { urls, rule }) => {
            let mut typed = "backstop server remove".to_owned();
            for url in urls {
                let url = normal(url)?;
                ensure!(
                    has(&servers, &url) || begun,
                    "this node is not backed up by {url}, but by {}",
                    names()
                );
                servers.retain(|server| server.url != url);
                typed = format!("{typed} {url}");
            }
            (rule.require, typed)
        }
        Command::Replace(Replace { old, url, new, rule }) => {
            let (old, url) = (normal(old)?, normal(url)?);
            if !has(&servers, &old) && has(&servers, &url) && begun {
                // That is what was begun.
            } else {
                ensure!(
                    !has(&servers, &url),
                    "{url} is one of this node's servers already: type backstop server remove {old}"
                );
                let comes = comes(node, &url, new).await?;
                let goes = servers
                    .iter_mut()
                    .find(|server| server.url == old)
                    .with_context(|| format!("this node is not backed up by {old}, but by {}", names()))?;
                *goes = comes;
            }
            (rule.require, format!("backstop server replace {old} {url}"))
        }
        Command::Require(Require { which, .. }) => {
            ensure!(
                servers.len() > 1,
                "this node has one server, which must hold every update: nothing was changed. To let another one keep the backup too, \
                 type: backstop server add URL --require {}",
                name(*which)
            );
            (Some(*which), format!("backstop server require {}", name(*which)))
        }
    };
    ensure!(
        !servers.is_empty(),
        "without a server the node has no backup: nothing was changed. To go on with another one, type: backstop server replace {} URL",
        names()
    );
    let require = require(asked, servers.len(), (known > 1).then_some(before))?;
    if let Some(require) = asked.filter(|_| !matches!(command, Command::Require(_))) {
        typed = format!("{typed} --require {}", name(require));
    }
    typed = format!(
        "{typed} --lightning-dir {} --network {}",
        node.files.base().display(),
        node.files.network()
    );
    let next = Config {
        require,
        servers,
        ..config.clone()
    };
    if let Some(pending) = &pending {
        let keys = pending.servers.iter().map(|server| server.key);
        let is_same = Stated::new(pending.require, keys) == Stated::from(&next);
        ensure!(
            is_same || Stated::from(config) == Stated::from(&next),
            "another change was begun and not completed. Type that again first: {}",
            pending.typed
        );
    }
    Ok(Wanted { next, typed, pending })
}

/// As it is typed.
fn name(require: RequireConfig) -> &'static str {
    match require {
        RequireConfig::All => "all",
        RequireConfig::Majority => "majority",
    }
}

/// The rule for so many servers: what was asked for, else that of before, where there were several.
fn require(
    asked: Option<RequireConfig>,
    servers: usize,
    before: Option<RequireConfig>,
) -> anyhow::Result<RequireConfig> {
    match (asked, before) {
        _ if servers == 1 => Ok(RequireConfig::All),
        (Some(require), _) | (None, Some(require)) => Ok(require),
        (None, None) => bail!(
            "several servers need --require all or --require majority. With all, the node waits as soon as one of them is away; with \
             a majority, some may be away, and as many more must be there to restore. Nothing was changed"
        ),
    }
}

/// A server that comes, with the key that is pinned from now on.
async fn comes(node: &Node, url: &str, new: &New) -> anyhow::Result<ServerConfig> {
    let key = Server::new(url, &node.config.connect())?
        .key(new.server_key)
        .await
        .context("nothing was changed")?;
    let known = node.config.servers.iter().find(|known| known.key == key);
    if let Some(known) = known {
        bail!("{url} is the same server as {}: nothing was changed", known.url);
    }
    Ok(ServerConfig {
        url: url.to_owned(),
        key,
    })
}
