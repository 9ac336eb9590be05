//! The tasks behind the webhooks: one keeps in the store what is told, the other delivers what is kept.

use super::{Event, Kind, Webhook};
use crate::{
    metrics::TenantMetrics,
    store::{Alarm, Store},
};
use backstop_protocol::{
    clock::{Clock, UnixMillis},
    id::{Network, NodeId, ServerKey},
};
use reqwest::{Client, redirect};
use serde::Serialize;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

/// How long an event of a node is not said again, milliseconds.
const QUIET_MS: u64 = 60 * 60 * 1000;
/// Events that are remembered for that.
const SAID_MAX: usize = 65_536;
/// How often one is tried before it rests.
const ATTEMPTS: u32 = 6;
/// Rest before the second attempt; each further one is four times as long.
const REST: Duration = Duration::from_secs(1);
/// Rest between two events, so that many at once do not flood whoever listens.
const PACE: Duration = Duration::from_millis(100);
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long one that was taken is no other server's, milliseconds: longer than all attempts together. Then it is tried again.
const TAKEN_MS: u64 = 15 * 60 * 1000;
/// One that could not be delivered for so long is given up.
const OLD_MS: u64 = 3 * 24 * 60 * 60 * 1000;
/// How often the store is asked for what another server left.
const LOOK: Duration = Duration::from_secs(30);
/// How often a store that is away is asked to keep an event.
const KEEPS: u32 = 5;

/// The tasks, until they are told to end.
pub(crate) struct Post {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Post {
    pub(super) fn none() -> Self {
        let (stop, tasks) = (watch::Sender::new(false), Vec::new());
        Self { stop, tasks }
    }

    pub(super) fn start(
        webhook: Webhook,
        server: ServerKey,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        metrics: TenantMetrics,
        events: mpsc::Receiver<Event>,
    ) -> Self {
        let stop = watch::Sender::new(false);
        let kept = Arc::new(Notify::new());
        let scribe = Scribe {
            store: store.clone(),
            metrics: metrics.clone(),
            kept: kept.clone(),
            said: HashMap::new(),
        };
        let mut tasks = vec![tokio::spawn(scribe.run(events, stop.subscribe()))];
        if let Some(client) = client() {
            let courier = Courier {
                webhook,
                client,
                server,
                store,
                clock,
                metrics,
                kept,
            };
            tasks.push(tokio::spawn(courier.run(stop.subscribe())));
        }
        Self { stop, tasks }
    }

    /// Keeps what was told, leaves the rest to the next start, and ends.
    pub(crate) async fn close(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if task.await.is_err() {
                tracing::error!("a task behind the webhooks broke off");
            }
        }
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Keeps what is told.
struct Scribe {
    store: Arc<dyn Store>,
    metrics: TenantMetrics,
    kept: Arc<Notify>,
    said: HashMap<(Kind, NodeId, Network), UnixMillis>,
}

impl Scribe {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, mut stop: watch::Receiver<bool>) {
        loop {
            let event = tokio::select! {
                // What waits comes before the end.
                biased;
                event = events.recv() => event,
                () = told(&mut stop) => None,
            };
            let Some(event) = event else { return };
            if self.is_news(&event) {
                self.keep(event, &mut stop).await;
            }
        }
    }

    async fn keep(&self, event: Event, stop: &mut watch::Receiver<bool>) {
        let alarm = Alarm {
            kind: event.kind.as_str().to_owned(),
            node: event.node,
            network: event.network,
            at: event.at,
            text: event.text.chars().take(2000).collect(),
        };
        for _ in 0..KEEPS {
            match self.store.keep_alarm(alarm.clone()).await {
                Ok(true) => return self.kept.notify_one(),
                Ok(false) => break,
                Err(error) => tracing::warn!(%error, event = alarm.kind, "an event could not be kept"),
            }
            tokio::select! {
                () = tokio::time::sleep(REST) => {}
                () = told(stop) => break,
            }
        }
        self.metrics.dropped();
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
}

/// The whole body.
#[derive(Serialize)]
struct Body<'a> {
    server: ServerKey,
    event: &'a str,
    node: NodeId,
    network: Network,
    at: UnixMillis,
    text: &'a str,
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
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: TenantMetrics,
    kept: Arc<Notify>,
}

impl Courier {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let now = self.clock.now();
            let until = UnixMillis(now.0.saturating_add(TAKEN_MS));
            let rest = match self.store.take_alarm(now, until).await {
                Ok(Some((number, alarm))) => {
                    self.carry(number, &alarm, &mut stop).await;
                    PACE
                }
                Ok(None) => LOOK,
                Err(error) => {
                    tracing::warn!(%error, "the events that wait could not be read");
                    LOOK
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.kept.notified() => {}
                () = told(&mut stop) => {}
            }
        }
    }

    async fn carry(&self, number: i64, alarm: &Alarm, stop: &mut watch::Receiver<bool>) {
        let age = self.clock.now().millis_since(alarm.at);
        let done = tokio::select! {
            done = self.deliver(alarm), if age < OLD_MS => done,
            () = told(stop), if age < OLD_MS => {
                // The next start is not to wait for this one.
                if let Err(error) = self.store.free_alarm(number, UnixMillis(0)).await {
                    tracing::warn!(%error, "an event waits some minutes longer");
                }
                return;
            }
            else => {
                self.metrics.failed();
                true
            }
        };
        if done && let Err(error) = self.store.end_alarm(number).await {
            tracing::warn!(%error, "an event that was delivered is delivered again");
        }
    }

    /// Whether it was taken, by one of several attempts.
    async fn deliver(&self, alarm: &Alarm) -> bool {
        let body = Body {
            server: self.server,
            event: &alarm.kind,
            node: alarm.node,
            network: alarm.network,
            at: alarm.at,
            text: &alarm.text,
        };
        // An event is plain data: writing it as JSON cannot fail.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut rest = REST;
        for attempt in 1..=ATTEMPTS {
            let why = match self.send(&body).await {
                Ok(()) => {
                    self.metrics.sent();
                    return true;
                }
                Err(why) => why,
            };
            tracing::warn!(attempt, why, event = alarm.kind, "a webhook was not delivered");
            if attempt < ATTEMPTS {
                tokio::time::sleep(rest).await;
                rest *= 4;
            }
        }
        false
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
    use crate::store::{SqliteStore, Terms};
    use getrandom::{SysRng, rand_core::UnwrapErr};

    fn event(kind: Kind, node: u8, at: u64) -> Event {
        Event {
            kind,
            node: NodeId([node; 33]),
            network: Network::Regtest,
            at: UnixMillis(at),
            text: String::new(),
        }
    }

    #[tokio::test]
    async fn the_same_of_the_same_node_is_said_once_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        let store = SqliteStore::open(&file, None, Terms::default(), &mut UnwrapErr(SysRng)).await;
        let mut scribe = Scribe {
            store: Arc::new(store.unwrap()),
            metrics: TenantMetrics::default(),
            kept: Arc::default(),
            said: HashMap::new(),
        };
        assert!(scribe.is_news(&event(Kind::QuotaNear, 1, 0)));
        assert!(!scribe.is_news(&event(Kind::QuotaNear, 1, QUIET_MS - 1)));
        assert!(scribe.is_news(&event(Kind::QuotaNear, 2, 5)));
        assert!(scribe.is_news(&event(Kind::QuotaOverdraft, 1, 5)));
        assert!(scribe.is_news(&event(Kind::QuotaNear, 1, QUIET_MS)));
        for _ in 0..2 {
            assert!(scribe.is_news(&event(Kind::RemovalAsked, 1, 0)));
        }
    }
}
