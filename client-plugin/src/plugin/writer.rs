//! The writer of one run: takes batches, seals them, and returns once they are durable (I2, I3, I7).

use super::{
    batch::Versions, follower::Follower, halt::Halted, patience::Patience, room::Room, servers::Servers,
    spool::Spool,
};
use crate::{
    directory::{Lock, Witness},
    node::Node,
    quorum::Record,
    record::{Batch, Content, Place, Sealer},
};
use backstop_protocol::{
    head::Head,
    id::{RunId, TimelineId},
};
use bytes::Bytes;
use std::sync::Arc;

/// How lightningd notes an upgrade of its schema; it rewrites the whole file at the end of such a start, and tells nobody.
const MIGRATION: &[u8] = b"INSERT INTO db_upgrades";

/// A record that enough servers hold, and that the follower has not heard of.
pub(super) struct Acknowledged {
    head: Head,
    content: Content,
    sealed: Bytes,
    /// Whether a server asks for a roll-up.
    roll_up: bool,
}

/// The one writer of this directory, from a run's first batch to its end.
pub(super) struct Writer {
    pub(super) node: Arc<Node>,
    pub(super) servers: Servers,
    pub(super) patience: Patience,
    pub(super) sealer: Sealer,
    pub(super) run: RunId,
    pub(super) epoch: u64,
    pub(super) timeline: TimelineId,
    /// The last record that was acknowledged.
    pub(super) head: Head,
    /// The version of the database once lightningd has committed what was acknowledged.
    pub(super) version: u64,
    /// Whether this run's first record is still to come.
    pub(super) opens_run: bool,
    /// What the follower is to hear next.
    pub(super) acknowledged: Option<Acknowledged>,
    /// Makes roll-ups in the background; `None` where no shadow is kept.
    pub(super) follower: Option<Follower>,
    /// What the server says about the node's room.
    pub(super) room: Room,
    /// What takes updates while too few servers answer; `None` where the operator did not choose that, and before the backup says so.
    pub(super) spool: Option<Spool>,
    /// Held for the life of the run.
    pub(super) _lock: Lock,
}

impl Writer {
    /// Makes one batch durable. On success lightningd may commit it, and is to hear so before [`Writer::follow`] is called: it waits
    /// for that word alone.
    pub(super) async fn append_batch(
        &mut self,
        versions: Versions,
        statements: Vec<Vec<u8>>,
    ) -> Result<(), Halted> {
        // Within a run lightningd sends a batch only once the one before is committed: nothing but the next version
        // can come, or the same one again for PRAGMAs that ran outside a transaction (I4).
        if versions.before != self.version {
            return Err(Halted::new(format!(
                "lightningd went from version {} of its database to {} without a word. The node is halted, nothing is \
                 lost; when it starts again, a new snapshot closes the gap.",
                self.version, versions.before
            )));
        }
        let batch = Batch {
            run: self.run,
            opens_run: self.opens_run,
            outside_transaction: versions.outside_transaction,
            data_version: versions.after,
            statements,
        };
        let migrates = batch
            .statements
            .iter()
            .any(|statement| statement.starts_with(MIGRATION));
        let version = std::mem::replace(&mut self.version, versions.after);
        if let Err(halted) = self.send(Content::Batch(batch)).await {
            self.version = version;
            return Err(halted);
        }
        if migrates {
            self.node.directory.set_migrated(true)?;
        }
        Ok(())
    }

    /// Seals one record and waits until enough servers have it.
    pub(super) async fn append(&mut self, content: Content) -> Result<(), Halted> {
        self.send(content).await?;
        self.follow();
        Ok(())
    }

    /// The same without a word to the follower.
    async fn send(&mut self, content: Content) -> Result<(), Halted> {
        // It decides where the next record begins.
        self.follow();
        let place = Place {
            timeline: self.timeline,
            epoch: self.epoch,
            seq: self.head.seq + 1,
            prev: self.head.hash,
        };
        let mut rng = self.node.ambient.rng.clone();
        let sealed = self.sealer.seal(place, &content, &mut rng).map_err(|error| {
            Halted::new(format!(
                "An update cannot be sealed: {error}. The node is halted; nothing is lost."
            ))
        })?;
        let head = sealed.header.head(sealed.hash);
        // Sealed once: the same bytes go to every server and in every attempt, so a lost answer costs nothing (I4).
        let record = Record {
            head,
            prev: place.prev,
            sealed: sealed.bytes,
        };
        if let (Some(follower), Servers::Several(several)) = (&self.follower, &self.servers)
            && follower.has_rolled_up()
        {
            several.look_again();
        }
        let roll_up = match &self.spool {
            Some(spool) => spool.append(&record, self.version, &mut self.room).await?,
            None => {
                self.servers
                    .append(&record, &mut self.room, &self.patience, &self.node.network_dir)
                    .await?
            }
        };
        self.head = head;
        self.opens_run = false;
        self.acknowledged = Some(Acknowledged {
            head,
            content,
            sealed: record.sealed,
            roll_up,
        });
        Ok(())
    }

    /// Hands the record that was acknowledged last to the follower, which may roll up there.
    pub(super) fn follow(&mut self) {
        let Some(acknowledged) = self.acknowledged.take() else {
            return;
        };
        // A snapshot rests on a record that the servers hold.
        let may_roll_up = !self.is_spooling();
        let Some(follower) = &self.follower else { return };
        let Acknowledged {
            head,
            content,
            sealed,
            roll_up,
        } = acknowledged;
        follower.follow(head, content, sealed);
        if may_roll_up && (roll_up || follower.wants_roll_up()) && follower.roll_up(head) {
            // A reader of the snapshot begins with the next record.
            self.sealer.restart();
        }
    }

    /// What this directory may remember as acknowledged.
    pub(super) fn witness(&self) -> Witness {
        match &self.spool {
            Some(spool) => spool.acknowledged(),
            None => Witness::new(self.timeline, self.head, self.version),
        }
    }

    /// Whether there are updates that no server is known to have.
    pub(super) fn is_spooling(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::is_spooling)
    }
}
