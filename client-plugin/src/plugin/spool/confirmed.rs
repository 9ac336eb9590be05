//! When enough servers last confirmed that this run is the writer, and what keeps that young.

use super::Shared;
use crate::node::Node;
use backstop_protocol::clock::UnixMillis;
use std::{sync::Weak, time::Duration};
use tokio::time::Instant;

/// By two clocks, of which either may miss the time that a machine was asleep.
#[derive(Clone, Copy)]
pub(in crate::plugin) struct Moment {
    steady: Instant,
    wall: UnixMillis,
}

impl Moment {
    pub(in crate::plugin) fn now(node: &Node) -> Self {
        Self {
            steady: Instant::now(),
            wall: node.ambient.clock.now(),
        }
    }

    pub(super) fn elapsed(self, node: &Node) -> Duration {
        let wall = node.ambient.clock.now().millis_since(self.wall);
        self.steady.elapsed().max(Duration::from_millis(wall))
    }
}

impl Shared {
    /// Shows enough servers that this run lives, where they have not heard of it for a while: the same claim sent again counts as a word
    /// from the writer.
    pub(super) async fn show_life(&self) {
        let confirmed = self.known().confirmed;
        if confirmed.elapsed(&self.node) < self.rhythm() {
            return;
        }
        let sent = Moment::now(&self.node);
        let mut heard = 0;
        for (_, session) in self.servers.sessions() {
            let account = session.renew().await;
            heard += usize::from(account.is_ok_and(|account| account.epoch == self.epoch));
        }
        if heard >= self.servers.needed() {
            let mut known = self.known();
            if known.confirmed.steady < sent.steady {
                known.confirmed = sent;
            }
        }
    }

    /// How long the servers may hear nothing.
    fn rhythm(&self) -> Duration {
        Duration::from_secs(self.config().seconds) / 4
    }
}

/// Shows life now and then, where no update does, so that an idle node has its spool's time before it too.
pub(super) async fn show_life(shared: Weak<Shared>) {
    loop {
        let Some(here) = shared.upgrade() else { return };
        if !here.known().spooling {
            here.show_life().await;
        }
        let rhythm = here.rhythm();
        drop(here);
        tokio::time::sleep(rhythm / 2).await;
    }
}
