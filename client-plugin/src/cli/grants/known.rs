//! `backstop grants`.

use super::ask_all;
use crate::{
    cli::{Here, NodeArgs, wait::wait, when::Stamp},
    node::{Ambient, Node},
    remote::RemoteError,
};
use backstop_protocol::{
    api::{AccountGrants, RememberedGrant},
    clock::UnixMillis,
    grant::{Grant, Scope, SignedGrant},
    id::AccessKey,
};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    io::{self, Write},
};

/// List the grants of this node: those that its servers were shown, and those that were given here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:

  backstop grants --network bitcoin
  backstop grants --network bitcoin --json")]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints; members are added, never changed.
#[derive(Serialize)]
struct Listed {
    servers: Vec<Server>,
    /// Given here, and shown to no server that answered.
    given: Vec<Given>,
}

#[derive(Serialize)]
struct Server {
    url: String,
    /// No lower serial is valid there; `null` where it did not answer.
    floor: Option<u64>,
    /// Grants that it was shown.
    grants: Vec<Given>,
    /// Texts that it shows as grants and that this node did not sign.
    foreign: Vec<String>,
    /// Why there is no answer.
    error: Option<String>,
}

/// One grant.
#[derive(Serialize)]
struct Given {
    serial: u64,
    scope: Scope,
    key: AccessKey,
    /// Whether it is this node's own.
    own: bool,
    /// When it ends, seconds; `null`: never.
    expires_at: Option<u64>,
    state: State,
    /// When it was first shown there.
    shown_at: Option<UnixMillis>,
}

/// Whether a grant is good.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Valid,
    Revoked,
    Expired,
}

/// Runs the command. It fails where a server could not be asked, after it said all that is known.
pub(crate) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let now = ambient.clock.now();
    let node = args.node.load(here, ambient)?;
    let answers = wait(async { Ok(ask_all(&node).await) })?;
    let mut listed = Listed {
        servers: Vec::new(),
        given: Vec::new(),
    };
    let mut shown = BTreeSet::new();
    for (server, answer) in answers {
        if let Ok(known) = &answer {
            shown.extend(known.grants.iter().map(|grant| grant.text.clone()));
        }
        listed.servers.push(Server::new(server.url, answer, &node, now));
    }
    let floor = match node.directory.revoked()? {
        Some(revocation) => revocation.verify()?.floor,
        None => 0,
    };
    let given = node.directory.granted()?;
    for grant in given.iter().filter(|given| !shown.contains(&given.text)) {
        listed.given.push(Given::new(&grant.verify()?, &node, floor, now));
    }
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&listed)?)?;
    } else {
        listed.print(&mut out)?;
    }
    let silent: Vec<_> = listed
        .servers
        .into_iter()
        .filter_map(|server| server.error)
        .collect();
    anyhow::ensure!(silent.is_empty(), "{}", silent.join("; "));
    Ok(())
}

impl Server {
    fn new(url: String, answer: Result<AccountGrants, RemoteError>, node: &Node, now: UnixMillis) -> Self {
        let mut server = Self {
            url,
            floor: None,
            grants: Vec::new(),
            foreign: Vec::new(),
            error: None,
        };
        match answer {
            Ok(known) => {
                server.floor = Some(known.floor);
                for grant in &known.grants {
                    // What a server says here is worth what the node's signature under it is worth.
                    match signed(grant).verify() {
                        Ok(read) => server.grants.push(Given {
                            shown_at: Some(grant.shown_at),
                            ..Given::new(&read, node, known.floor, now)
                        }),
                        Err(error) => server.foreign.push(format!("({error}): {}", grant.text)),
                    }
                }
            }
            Err(error) => server.error = Some(error.to_string()),
        }
        server
    }
}

impl Given {
    fn new(grant: &Grant, node: &Node, floor: u64, now: UnixMillis) -> Self {
        Self {
            serial: grant.serial,
            scope: grant.scope,
            key: grant.access_key,
            own: grant.access_key == node.keys.access.access_key(),
            expires_at: grant.expires_at,
            state: match grant.expires_at {
                _ if grant.serial < floor => State::Revoked,
                Some(end) if end < now.as_secs() => State::Expired,
                _ => State::Valid,
            },
            shown_at: None,
        }
    }
}

impl Listed {
    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for server in &self.servers {
            let Some(floor) = server.floor else { continue };
            writeln!(out, "{}, where no serial below {floor} is valid:", server.url)?;
            for grant in &server.grants {
                grant.print(out)?;
            }
            for text in &server.foreign {
                writeln!(out, "  not signed by this node {text}")?;
            }
        }
        if !self.given.is_empty() {
            writeln!(out, "Given here, and shown to no server that answered:")?;
        }
        for grant in &self.given {
            grant.print(out)?;
        }
        Ok(())
    }
}

impl Given {
    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let scope = match self.scope {
            Scope::Read => "read",
            Scope::Append => "append",
        };
        let end = match (self.state, self.expires_at) {
            (State::Revoked, _) => "REVOKED".to_owned(),
            (State::Expired, _) => "EXPIRED".to_owned(),
            (State::Valid, Some(end)) => format!("until {}", Stamp(UnixMillis(end.saturating_mul(1000)))),
            (State::Valid, None) => "for ever".to_owned(),
        };
        let since = self
            .shown_at
            .map_or_else(String::new, |at| format!(", first shown {}", Stamp(at)));
        let own = if self.own { " (this node's own)" } else { "" };
        writeln!(
            out,
            "  {:>4}  {scope:6}  {end}{since}\n        key {}{own}",
            self.serial, self.key
        )
    }
}

/// The grant as the node signed it.
pub(super) fn signed(known: &RememberedGrant) -> SignedGrant {
    SignedGrant {
        text: known.text.clone(),
        signature: known.signature.clone(),
    }
}
