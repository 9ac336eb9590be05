//! Several servers: what the arguments may say about them, and what an earlier setup pinned.

use super::{Args, start_over};
use crate::directory::{Config, Directory, RequireConfig};
use anyhow::{bail, ensure};
use backstop_protocol::id::ServerKey;

/// How many servers must hold an update, as far as these arguments may say.
pub(super) fn require(args: &Args) -> anyhow::Result<RequireConfig> {
    ensure!(
        args.server_key.is_empty() || args.server_key.len() == args.server.len(),
        "--server-key was given {} time(s) and --server {}: each key belongs to one server, in the same order",
        args.server_key.len(),
        args.server.len()
    );
    match (args.require, args.server.as_slice()) {
        (Some(require), _) => Ok(require),
        (None, [_]) => Ok(RequireConfig::All),
        (None, _) => bail!(
            "several servers need --require all or --require majority. With all, the node waits as soon as one of them \
                 is away; with a majority, some may be away, and as many more must be there to restore"
        ),
    }
}

/// The keys of the servers that an earlier setup pinned, if they are the ones that are meant now.
pub(super) fn known(
    before: &Config,
    urls: &[String],
    args: &Args,
    directory: &Directory,
) -> anyhow::Result<Vec<Option<ServerKey>>> {
    let known: Vec<_> = before.servers.iter().map(|server| &server.url).collect();
    let same_rule = args.require.is_none_or(|require| require == before.require);
    if known.len() != urls.len() || urls.iter().any(|url| !known.contains(&url)) || !same_rule {
        let others: Vec<_> = before.servers.iter().map(|server| server.url.as_str()).collect();
        bail!(
            "this node is set up for {}, not for {}. Nothing was changed. {}",
            others.join(" and "),
            urls.join(" and "),
            start_over(directory)
        );
    }
    let mut keys = Vec::new();
    for (at, url) in urls.iter().enumerate() {
        let pinned = before.servers.iter().find(|server| server.url == *url);
        let Some(pinned) = pinned.map(|server| server.key) else {
            continue;
        };
        ensure!(
            args.server_key.get(at).is_none_or(|key| *key == pinned),
            "the key of {url} was pinned as {pinned}, which is not the one of --server-key. Nothing was changed. {}",
            start_over(directory)
        );
        keys.push(Some(pinned));
    }
    Ok(keys)
}
