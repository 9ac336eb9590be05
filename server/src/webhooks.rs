//! Webhooks: what an operator must hear about, sent to a URL of his, signed, a little at a time, and never in anybody's way.
//!
//! [`Webhooks::tell`] puts an event into a bounded queue and returns. One task keeps what is in it in the store, the same event
//! of the same node once an hour at most; another delivers what is kept there, each several times with longer and longer rests,
//! and again later, also after a restart, until it is three days old. Beside each event stands a metric, which says the same
//! to who asks.

mod courier;

pub(crate) use courier::Post;

use crate::{metrics::TenantMetrics, store::Store};
use backstop_protocol::{
    clock::{Clock, UnixMillis},
    hash::hmac_sha256,
    id::{Network, NodeId, ServerKey},
};
use std::{fmt, sync::Arc};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Events that may wait; one more is dropped, and counted.
const WAITING: usize = 1024;
/// What the input of a signature starts with; a zero byte follows.
const LABEL: &[u8] = b"backstop/v1/webhook";
/// Shortest secret, bytes.
const SECRET_MIN: usize = 16;
/// Longest secret, bytes.
const SECRET_MAX: usize = 32;

/// Where events are sent, and the secret that signs them; both show themselves to nobody.
#[derive(Clone)]
pub struct Webhook {
    url: reqwest::Url,
    /// Padded with zeros, as HMAC does it.
    secret: Arc<Zeroizing<[u8; SECRET_MAX]>>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhook(..)")
    }
}

/// Why there can be no such webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWebhook {
    /// Not a URL to which anything can be sent.
    #[error("the webhook's URL must start with https:// or http:// and name a host")]
    Url,
    /// Guessed too easily, or too long.
    #[error(
        "the webhook's secret must have {SECRET_MIN} to {SECRET_MAX} bytes, such as `openssl rand -hex 16` makes"
    )]
    Secret,
}

impl Webhook {
    /// A webhook; blanks and line ends around the secret are not part of it.
    pub fn new(url: &str, secret: &[u8]) -> Result<Self, BadWebhook> {
        let url = reqwest::Url::parse(url).map_err(|_| BadWebhook::Url)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(BadWebhook::Url);
        }
        let secret = secret.trim_ascii();
        let mut padded = Zeroizing::new([0; SECRET_MAX]);
        match padded.get_mut(..secret.len()) {
            Some(place) if secret.len() >= SECRET_MIN => place.copy_from_slice(secret),
            _ => return Err(BadWebhook::Secret),
        }
        let secret = Arc::new(padded);
        Ok(Self { url, secret })
    }

    fn signature(&self, time: &str, body: &[u8]) -> String {
        let parts: [&[u8]; 5] = [LABEL, b"\0", time.as_bytes(), b"\0", body];
        hex::encode(hmac_sha256(&self.secret, &parts))
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    NodeSilent,
    QuotaNear,
    QuotaOverdraft,
    QuotaExhausted,
    ProofFailed,
    RemovalAsked,
    RemovalUndone,
    RemovalDone,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::NodeSilent,
        Self::QuotaNear,
        Self::QuotaOverdraft,
        Self::QuotaExhausted,
        Self::ProofFailed,
        Self::RemovalAsked,
        Self::RemovalUndone,
        Self::RemovalDone,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NodeSilent => "node_silent",
            Self::QuotaNear => "quota_near",
            Self::QuotaOverdraft => "quota_overdraft",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ProofFailed => "proof_failed",
            Self::RemovalAsked => "removal_asked",
            Self::RemovalUndone => "removal_undone",
            Self::RemovalDone => "removal_done",
        }
    }
}

/// One event of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) node: NodeId,
    pub(crate) network: Network,
    /// By the server's clock.
    pub(crate) at: UnixMillis,
    /// What happened and what to do, for a person.
    pub(crate) text: String,
}

/// Where events are told.
#[derive(Clone)]
pub(crate) struct Webhooks {
    queue: Option<mpsc::Sender<Event>>,
    metrics: TenantMetrics,
}

impl Webhooks {
    /// Starts the tasks that keep and deliver, where there is somebody to deliver to.
    pub(crate) fn start(
        webhook: Option<Webhook>,
        server: ServerKey,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        metrics: TenantMetrics,
    ) -> (Self, Post) {
        let Some(webhook) = webhook else {
            return (Self::to_nobody(metrics), Post::none());
        };
        let (queue, events) = mpsc::channel(WAITING);
        let post = Post::start(webhook, server, store, clock, metrics.clone(), events);
        let queue = Some(queue);
        (Self { queue, metrics }, post)
    }

    /// Nobody listens: the log and the metrics alone say what happens.
    pub(crate) fn to_nobody(metrics: TenantMetrics) -> Self {
        Self { queue: None, metrics }
    }

    /// Tells an event: to the log, the metric beside it and, as long as there is room, the queue.
    pub(crate) fn tell(&self, event: Event) {
        let (kind, node, network) = (event.kind.as_str(), event.node, event.network);
        tracing::warn!(event = kind, %node, %network, "{}", event.text);
        self.metrics.happened(event.kind);
        if let Some(queue) = &self.queue
            && queue.try_send(event).is_err()
        {
            self.metrics.dropped();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, node: u8, at: u64) -> Event {
        Event {
            kind,
            node: NodeId([node; 33]),
            network: Network::Regtest,
            at: UnixMillis(at),
            text: String::new(),
        }
    }

    #[test]
    fn what_cannot_be_a_webhook_is_refused() {
        let secret = [b'x'; SECRET_MIN];
        for url in ["", "example.org", "ftp://example.org/", "unix:/run/hook"] {
            assert_eq!(Webhook::new(url, &secret).err(), Some(BadWebhook::Url), "{url}");
        }
        for secret in [&b"0123456789abcde \n"[..], &[b'x'; SECRET_MAX + 1]] {
            let refused = Webhook::new("https://example.org/", secret);
            assert_eq!(refused.err(), Some(BadWebhook::Secret));
        }
        let webhook = Webhook::new("https://example.org/?token=hush", &secret).unwrap();
        assert!(!format!("{webhook:?}").contains("hush"));
    }

    #[test]
    fn a_signature_covers_time_and_body() {
        let webhook = Webhook::new("https://example.org/hook", b" 0123456789abcdef\n").unwrap();
        // HMAC-SHA256 with the key "0123456789abcdef" over "backstop/v1/webhook", 0, "5", 0, "{}", by another program.
        let known = "60e863a9fa15412dcc77b5a6b398823bd5b6db9159c0cdca44c89874f94ce875";
        let signature = webhook.signature("5", b"{}");
        assert_eq!(signature, known);
        for other in [webhook.signature("6", b"{}"), webhook.signature("5", b"{ }")] {
            assert_ne!(signature, other);
        }
    }

    #[tokio::test]
    async fn a_full_queue_holds_nobody_up_and_is_counted() {
        let (queue, _nobody) = mpsc::channel(1);
        let webhooks = Webhooks {
            queue: Some(queue),
            metrics: TenantMetrics::default(),
        };
        for at in 0..5 {
            webhooks.tell(event(Kind::NodeSilent, 1, at));
        }
        assert_eq!(webhooks.metrics.dropped_so_far(), 4);
    }
}
