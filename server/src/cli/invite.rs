//! `backstop-server invite …`: invitations, while the server runs.

use super::{office::Place, units};
use crate::{
    amounts::{distance, size},
    store::{Act, Invite, InviteId, InviteToken, ShownInvite},
};
use anyhow::Context as _;
use backstop_protocol::clock::{Clock as _, SystemClock, UnixMillis};
use clap::{Args, Subcommand};
use getrandom::{
    SysRng,
    rand_core::{Rng as _, UnwrapErr},
};
use serde::Serialize;
use std::{fmt::Write as _, time::Duration};

#[derive(Debug, Subcommand)]
pub(super) enum InviteCommand {
    /// Make an invitation and show it, this one time: only its hash is kept.
    #[command(after_help = "Examples:

  backstop-server invite create
  backstop-server invite create --uses 5 --with-quota 10GiB --expires-in 90d --note friends")]
    Create(Create),
    /// List the invitations, the newest first.
    #[command(after_help = "Example:

  backstop-server invite list")]
    List(List),
    /// Revoke an invitation. Whom it let in stays.
    #[command(after_help = "Example:

  backstop-server invite revoke 1f2e3d4c")]
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// How many nodes it lets in.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    uses: u64,
    /// The quota of each node that it lets in; without it, the server's.
    #[arg(long = "with-quota", value_name = "SIZE", value_parser = units::bytes)]
    quota: Option<u64>,
    /// For how long it is good.
    #[arg(long = "expires-in", value_name = "TIME", default_value = "30d", value_parser = units::time)]
    expires_in: Duration,
    /// A few words for yourself, to know it again.
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = note)]
    note: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The invitation's name, 8 hex digits, as `invite list` shows it.
    #[arg(value_name = "NAME")]
    invite: InviteId,
    #[command(flatten)]
    place: Place,
}

fn note(text: &str) -> Result<String, String> {
    if text.chars().count() <= 200 && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("at most 200 characters, on one line".to_owned())
    }
}

/// An invitation as it is listed. Members are only ever added.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    note: String,
    quota: Option<u64>,
    uses: u64,
    used: u64,
    created_at: UnixMillis,
    expires_at: Option<UnixMillis>,
    revoked_at: Option<UnixMillis>,
    open: bool,
    /// The whole invitation, where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<String>,
}

impl Listed {
    fn of(invite: &Invite, now: UnixMillis) -> Self {
        Self {
            name: invite.id.to_string(),
            note: invite.note.clone(),
            quota: invite.quota,
            uses: invite.uses,
            used: invite.used,
            created_at: invite.created_at,
            expires_at: invite.expires_at,
            revoked_at: invite.revoked_at,
            open: invite.is_open(now),
            invite: None,
        }
    }

    fn line(&self, now: UnixMillis) -> String {
        let end = match (self.revoked_at, self.expires_at) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(at)) if at <= now => "expired".to_owned(),
            (None, Some(at)) => format!("good for {}", distance(at, now)),
            (None, None) => "good for ever".to_owned(),
        };
        let quota = self.quota.map_or_else(|| "the server's".to_owned(), size);
        format!(
            "{}  used {} of {}, {end}, quota {quota}  {}",
            self.name, self.used, self.uses, self.note
        )
    }
}

pub(super) async fn run(command: InviteCommand) -> anyhow::Result<()> {
    let now = SystemClock.now();
    match command {
        InviteCommand::Create(create) => self::create(create, now).await,
        InviteCommand::List(List { place }) => {
            let mut office = place.open().await?;
            let invites = office.invites().await?;
            office.close().await?;
            let listed: Vec<_> = invites.iter().map(|invite| Listed::of(invite, now)).collect();
            place.say(&listed, || {
                let mut text = String::new();
                for invite in &listed {
                    // Writing to a string does not fail.
                    let _ = writeln!(text, "{}", invite.line(now));
                }
                if text.is_empty() {
                    text.push_str("There are no invitations; backstop-server invite create makes one.\n");
                }
                text
            })
        }
        InviteCommand::Revoke(Revoke { invite, place }) => {
            let mut office = place.open().await?;
            office
                .act(&Act::Revoke(invite, now))
                .await
                .with_context(|| format!("there is no invitation {invite}"))?;
            let found = office.invites().await?;
            office.close().await?;
            let listed = found.iter().find(|found| found.id == invite);
            let listed = listed.map(|found| Listed::of(found, now));
            place.say(&listed, || {
                format!("The invitation {invite} lets nobody in any more; whom it let in stays.\n")
            })
        }
    }
}

async fn create(create: Create, now: UnixMillis) -> anyhow::Result<()> {
    let mut rng = UnwrapErr(SysRng);
    let (mut id, mut secret) = ([0; 4], [0; 16]);
    rng.fill_bytes(&mut id);
    rng.fill_bytes(&mut secret);
    let token = InviteToken::new(id, secret);
    let ShownInvite { id, hash } = token.shown();
    let expires = now
        .0
        .saturating_add(u64::try_from(create.expires_in.as_millis())?);
    let invite = Invite {
        id,
        hash,
        note: create.note,
        quota: create.quota,
        uses: create.uses,
        used: 0,
        created_at: now,
        expires_at: Some(UnixMillis(expires)),
        revoked_at: None,
    };
    let mut office = create.place.open().await?;
    office
        .act(&Act::Invite(invite.clone()))
        .await
        .context("no invitation was made")?;
    office.close().await?;
    let listed = Listed {
        invite: Some(token.expose()),
        ..Listed::of(&invite, now)
    };
    create.place.say(&listed, || {
        format!(
            "{}\n\nThis is shown once. Its owner runs, with this server's URL:\n\n    backstop setup --server URL --invite {}\n",
            listed.line(now),
            token.expose()
        )
    })
}
