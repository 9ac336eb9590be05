//! The servers get what is in the spool, in order, until it is empty.

use super::{Queue, Shared};
use crate::{
    plugin::{
        halt::Halted,
        patience::{FIRST_PAUSE, LONGEST_PAUSE},
        stdio::{self, Level},
    },
    quorum::Record,
    remote::RemoteError,
    spool,
};
use std::sync::Arc;

impl Shared {
    /// Waits as with the policy `stall`, until the spool is empty.
    pub(super) async fn until_drained(&self, full: &str) -> Result<(), Halted> {
        stdio::log(
            Level::Warn,
            &format!("The spool takes no more: {full}. The node waits for its servers now; nothing is lost"),
        );
        let drained = async {
            let mut changes = self.changed.subscribe();
            loop {
                {
                    let known = self.known();
                    if let Some(refusal) = &known.ended {
                        return Err(refusal.clone());
                    }
                    if !known.spooling {
                        return Ok(());
                    }
                }
                let _ = changes.changed().await;
            }
        };
        let lacking = || self.known().trouble.clone();
        self.patience
            .until_reached("draining of the spool", &self.node.network_dir, drained, lacking)
            .await
    }

    /// Sends what is in the spool, in order, until it is empty.
    pub(super) async fn drain(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        let mut sent = 0_u64;
        loop {
            match self.step().await {
                Ok(0) => {
                    stdio::log(
                        Level::Info,
                        &format!(
                            "The spool is drained: the servers took its {sent} update(s) in order. The node is backed up as before"
                        ),
                    );
                    return;
                }
                Ok(count) => {
                    sent += count;
                    pause = FIRST_PAUSE;
                    self.show_life().await;
                    continue;
                }
                Err(error) if error.is_passing() => {
                    let (waiting, left) = (self.queue.lock().await.waiting.len(), self.time_left().as_secs());
                    stdio::log(
                        Level::Warn,
                        &format!(
                            "{waiting} update(s) wait in the spool: {error}. The node goes on for {left} s more"
                        ),
                    );
                    self.known().trouble = error;
                }
                Err(refusal) => {
                    self.known().ended = Some(refusal);
                    self.changed.send_replace(());
                    return;
                }
            }
            tokio::time::sleep(self.patience.jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends the oldest records, and lets go of them; where there are none, of the spool. Answers how many.
    async fn step(&self) -> Result<u64, RemoteError> {
        let window: Vec<(Record, u64)> = {
            let mut queue = self.queue.lock().await;
            let count = self
                .servers
                .window(queue.waiting.iter().map(|(record, _)| record));
            if queue.waiting.is_empty() {
                self.close(&mut queue).await?;
                return Ok(0);
            }
            queue.waiting.iter().take(count).cloned().collect()
        };
        let records: Vec<Record> = window.iter().map(|(record, _)| record.clone()).collect();
        self.servers.deliver(&records).await?;
        if let Some((last, version)) = window.last() {
            self.acknowledge(last, *version, None);
        }
        self.queue.lock().await.waiting.drain(..window.len());
        Ok(window.len() as u64)
    }

    /// Removes an empty spool, for good, before anything is sent past it.
    async fn close(&self, queue: &mut Queue) -> Result<(), RemoteError> {
        let path = self.node.directory.spool();
        let at = path.display().to_string();
        let removed = tokio::task::spawn_blocking(move || spool::remove(&path)).await;
        if let Ok(Err(error)) = removed {
            // As good as an outage: the node goes on, and this is tried again.
            return Err(RemoteError::Unreachable {
                url: at,
                reason: format!("the spool is empty and cannot be removed: {error}"),
            });
        }
        *queue = Queue::default();
        self.known().spooling = false;
        self.changed.send_replace(());
        Ok(())
    }
}
