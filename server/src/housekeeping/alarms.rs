//! What housekeeping sees of accounts as it comes by, and tells: who fell silent, runs out of room, is leaving or gone.

use crate::{
    metrics::{Standing, TenantMetrics},
    store::{Notice, Watched},
    webhooks::{Event, Kind, Webhooks},
};
use backstop_protocol::{
    clock::UnixMillis,
    id::{Network, NodeId},
    quota::QuotaLevel,
};

/// Whom housekeeping tells what it sees.
pub(crate) struct Alarms {
    webhooks: Webhooks,
    metrics: TenantMetrics,
    /// What this round has counted; `None` between two rounds.
    standing: Option<Standing>,
}

impl Alarms {
    pub(crate) fn new(webhooks: Webhooks, metrics: TenantMetrics) -> Self {
        Self {
            webhooks,
            metrics,
            standing: None,
        }
    }

    /// A round begins.
    pub(super) fn begin(&mut self) {
        self.standing = Some(Standing::default());
    }

    /// A round has come by every account.
    pub(super) fn end(&mut self) {
        self.metrics.stand(self.standing.take().unwrap_or_default());
    }

    /// Counts an account in this round, and tells what is new about it.
    pub(super) fn hear(&mut self, watched: &Watched, now: UnixMillis) {
        if let Some(standing) = &mut self.standing {
            let one = |yes: bool| i64::from(yes);
            standing.nodes += 1;
            standing.silent += one(watched.silent);
            standing.near += one(watched.level == QuotaLevel::Near);
            standing.overdraft += one(watched.level == QuotaLevel::Overdraft);
            standing.exhausted += one(watched.level == QuotaLevel::Exhausted);
            standing.leaving += one(watched.leaving);
        }
        for notice in &watched.notices {
            let (event, text) = told(notice, now);
            self.event(event, watched.node, watched.network, now, text);
        }
    }

    /// Tells that nothing of an account is left.
    pub(super) fn gone(&self, node: NodeId, network: Network, now: UnixMillis) {
        let text =
            "Everything of this node was removed; nothing of it can be restored from this server any more.";
        self.event(Kind::RemovalDone, node, network, now, text.to_owned());
    }

    fn event(&self, kind: Kind, node: NodeId, network: Network, at: UnixMillis, text: String) {
        self.webhooks.tell(Event {
            kind,
            node,
            network,
            at,
            text,
        });
    }
}

fn told(notice: &Notice, now: UnixMillis) -> (Kind, String) {
    match notice {
        Notice::Silent { since } => (
            Kind::NodeSilent,
            format!(
                "No record came for {} minutes, longer than is usual for this node. Its backup is as good as it was, but if the \
                 node runs it is not protected or cannot reach this server: ask its owner to look at `backstop status`.",
                now.millis_since(*since) / 60_000
            ),
        ),
        Notice::Quota(quota) => {
            let (kind, what) = match quota.level {
                QuotaLevel::Exhausted => (
                    Kind::QuotaExhausted,
                    "its next record may be refused, and then the node stands still",
                ),
                QuotaLevel::Overdraft => (
                    Kind::QuotaOverdraft,
                    "history is down to its minimum and the overdraft is being used",
                ),
                _ => (Kind::QuotaNear, "its history will yield soon"),
            };
            let text = format!(
                "The node uses {} of its {} bytes and may use {} at most: {what}. Give it more room with `backstop-server node \
                 quota NODE SIZE`.",
                quota.used, quota.bytes, quota.most
            );
            (kind, text)
        }
        Notice::RemovalAsked { at, by } => (
            Kind::RemovalAsked,
            format!(
                "The removal of everything of this node was asked for by the {by}. It begins in {} hours; until then \
                 `backstop-server node restore NODE` takes it back.",
                at.millis_since(now) / 3_600_000
            ),
        ),
        Notice::RemovalUndone => (
            Kind::RemovalUndone,
            "The removal of this node was taken back; its backup stays.".to_owned(),
        ),
    }
}
