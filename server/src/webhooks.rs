//! Webhooks: what an operator must hear about, sent to a URL of his, signed, a little at a time, and never in anybody's way.
//!
//! [`Webhooks::tell`] puts an event into a bounded queue and returns. One task empties it: the same event of the same
//! node is sent once an hour at most, each is tried several times with longer and longer rests, and what cannot be delivered
//! is logged and counted. Beside each event stands a metric, which says the same to who asks.

use crate::metrics::TenantMetrics;
use backstop_protocol::{
    clock::{Clock, UnixMillis},
    hash::hmac_sha256,
    id::{Network, NodeId, ServerKey},
};
use reqwest::{Client, redirect};
use serde::Serialize;
use std::{collections::HashMap, fmt, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

/// Events that may wait; one more is dropped, and counted.
const WAITING: usize = 1024;
/// How long an event of a node is not said again, milliseconds.
const QUIET_MS: u64 = 60 * 60 * 1000;
/// Events that are remembered for that.
const SAID_MAX: usize = 65_536;
/// How often one is tried.
const ATTEMPTS: u32 = 6;
/// Rest before the second attempt; each further one is four times as long.
const REST: Duration = Duration::from_secs(1);
/// Rest between two events, so that many at once do not flood whoever listens.
const PACE: Duration = Duration::from_millis(100);
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
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

/// One event of one node, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    #[serde(rename = "event")]
    pub(crate) kind: Kind,
    pub(crate) node: NodeId,
    pub(crate) network: Network,
    /// By the server's clock.
    pub(crate) at: UnixMillis,
    /// What happened and what to do, for a person.
    pub(crate) text: String,
}

/// The whole body.
#[derive(Serialize)]
struct Body<'a> {
    server: ServerKey,
    #[serde(flatten)]
    event: &'a Event,
}

/// Where events are told.
#[derive(Clone)]
pub(crate) struct Webhooks {
    queue: Option<mpsc::Sender<Event>>,
    metrics: TenantMetrics,
}

impl Webhooks {
    /// Starts the task that sends, where there is somebody to send to. It ends with the last of these handles.
    pub(crate) fn start(
        webhook: Option<Webhook>,
        server: ServerKey,
        clock: Arc<dyn Clock>,
        metrics: TenantMetrics,
    ) -> Self {
        let queue = webhook.and_then(|webhook| {
            let client = client()?;
            let (queue, events) = mpsc::channel(WAITING);
            let courier = Courier {
                webhook,
                client,
                server,
                clock,
                metrics: metrics.clone(),
                said: HashMap::new(),
            };
            tokio::spawn(courier.run(events));
            Some(queue)
        });
        Self { queue, metrics }
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

fn client() -> Option<Client> {
    // A second call finds the provider installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .user_agent(concat!("backstop-server/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(PATIENCE)
        .build();
    client
        .map_err(|error| tracing::error!(%error, "webhooks cannot be sent"))
        .ok()
}

/// Carries events to whoever listens.
struct Courier {
    webhook: Webhook,
    client: Client,
    server: ServerKey,
    clock: Arc<dyn Clock>,
    metrics: TenantMetrics,
    said: HashMap<(Kind, NodeId, Network), UnixMillis>,
}

impl Courier {
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            if !self.is_news(&event) {
                continue;
            }
            self.deliver(&event).await;
            tokio::time::sleep(PACE).await;
        }
    }

    /// Whether the same was not said within the hour. What is asked for and taken back in between is news each time.
    fn is_news(&mut self, event: &Event) -> bool {
        let Event {
            kind,
            node,
            network,
            at,
            ..
        } = event;
        if matches!(kind, Kind::RemovalAsked | Kind::RemovalUndone | Kind::RemovalDone) {
            return true;
        }
        let key = (*kind, *node, *network);
        let before = self.said.get(&key);
        if before.is_some_and(|before| *before <= *at && at.millis_since(*before) < QUIET_MS) {
            return false;
        }
        if self.said.len() >= SAID_MAX {
            self.said.clear();
        }
        self.said.insert(key, *at);
        true
    }

    async fn deliver(&self, event: &Event) {
        let body = Body {
            server: self.server,
            event,
        };
        // An event is plain data: writing it as JSON cannot fail.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut rest = REST;
        for attempt in 1..=ATTEMPTS {
            let why = match self.send(&body).await {
                Ok(()) => {
                    self.metrics.sent();
                    return;
                }
                Err(why) => why,
            };
            tracing::warn!(
                attempt,
                why,
                event = event.kind.as_str(),
                "a webhook was not delivered"
            );
            if attempt < ATTEMPTS {
                tokio::time::sleep(rest).await;
                rest *= 4;
            }
        }
        self.metrics.failed();
    }

    /// The time and the signature are each attempt's own, so that whoever listens may refuse old ones.
    async fn send(&self, body: &[u8]) -> Result<(), String> {
        let time = self.clock.now().0.to_string();
        let sent = self
            .client
            .post(self.webhook.url.clone())
            .header("content-type", "application/json")
            .header("backstop-signature", self.webhook.signature(&time, body))
            .header("backstop-time", time)
            .body(body.to_vec())
            .send()
            .await;
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status())),
            // The URL may hold a secret.
            Err(error) => Err(error.without_url().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::clock::SystemClock;

    fn courier() -> Courier {
        Courier {
            webhook: Webhook::new("https://example.org/hook", b" 0123456789abcdef\n").unwrap(),
            client: client().unwrap(),
            server: ServerKey([1; 32]),
            clock: Arc::new(SystemClock),
            metrics: TenantMetrics::default(),
            said: HashMap::new(),
        }
    }

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
        let webhook = courier().webhook;
        // HMAC-SHA256 with the key "0123456789abcdef" over "backstop/v1/webhook", 0, "5", 0, "{}", by another program.
        let known = "60e863a9fa15412dcc77b5a6b398823bd5b6db9159c0cdca44c89874f94ce875";
        let signature = webhook.signature("5", b"{}");
        assert_eq!(signature, known);
        for other in [webhook.signature("6", b"{}"), webhook.signature("5", b"{ }")] {
            assert_ne!(signature, other);
        }
    }

    #[test]
    fn the_same_of_the_same_node_is_said_once_an_hour() {
        let mut courier = courier();
        assert!(courier.is_news(&event(Kind::QuotaNear, 1, 0)));
        assert!(!courier.is_news(&event(Kind::QuotaNear, 1, QUIET_MS - 1)));
        assert!(courier.is_news(&event(Kind::QuotaNear, 2, 5)));
        assert!(courier.is_news(&event(Kind::QuotaOverdraft, 1, 5)));
        assert!(courier.is_news(&event(Kind::QuotaNear, 1, QUIET_MS)));
        for _ in 0..2 {
            assert!(courier.is_news(&event(Kind::RemovalAsked, 1, 0)));
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
