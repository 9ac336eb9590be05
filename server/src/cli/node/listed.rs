//! Nodes as an operator's commands list them.

use crate::{
    amounts::{distance, size},
    store::{Account, Allowed, Terms, UNLIMITED},
};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
};
use serde::Serialize;

/// A node as it is listed. Members are only ever added.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    pub(super) node: NodeId,
    pub(super) network: Network,
    pub(super) created_at: UnixMillis,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) last_record_at: Option<UnixMillis>,
    pub(super) silent_since: Option<UnixMillis>,
    pub(super) log_bytes: u64,
    pub(super) used: u64,
    /// Its own; `null` where the server's counts, or where it has no bounds.
    pub(super) quota: Option<u64>,
    pub(super) unlimited: bool,
    pub(super) invite: Option<String>,
    pub(super) held_since: Option<UnixMillis>,
    pub(super) removal_at: Option<UnixMillis>,
    pub(super) removal_by: Option<&'static str>,
    pub(super) roll_up_ordered: bool,
}

impl Listed {
    pub(super) fn of(account: &Account, terms: &Terms, now: UnixMillis) -> Self {
        Self {
            node: account.node,
            network: account.network,
            created_at: account.created_at,
            epoch: account.epoch(),
            seq: account.head.seq,
            last_record_at: account.head_received_at,
            silent_since: account.silent_since(terms, now),
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
    pub(super) fn matters(&self, now: UnixMillis) -> String {
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

    pub(super) fn room(&self) -> String {
        match self.quota {
            Some(quota) => format!("{} of {}", size(self.used), size(quota)),
            None => size(self.used),
        }
    }

    pub(super) fn last(&self, now: UnixMillis) -> String {
        let ago = |at| format!("{} ago", distance(at, now));
        self.last_record_at.map_or_else(|| "never".to_owned(), ago)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct AllowedJson {
    pub(super) node: NodeId,
    pub(super) network: Network,
    pub(super) quota: Option<u64>,
    pub(super) allowed_at: UnixMillis,
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
pub(super) struct ListJson {
    pub(super) nodes: Vec<Listed>,
    pub(super) allowed: Vec<AllowedJson>,
}
