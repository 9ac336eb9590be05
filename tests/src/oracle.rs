//! What a node acted on, written down beside it: after every loss, the database and the backup must hold exactly this.

use crate::{
    compare::{self, Equal, compare_open},
    replayer::Replayer,
};
use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// One thing that happened to the database.
#[derive(Debug)]
enum Event {
    /// A batch, and the version it led to.
    Batch(u64, Vec<Vec<u8>>),
    /// `VACUUM`.
    Vacuum,
    /// Another life of lightningd: foreign keys are on again.
    Start,
}

#[derive(Debug, Default)]
struct Memory {
    events: Vec<Event>,
    version: u64,
    /// Sent, and nobody knows yet whether it will be in the database: its reply was never read.
    pending: Option<(u64, Vec<Vec<u8>>)>,
}

/// The memory of one node over all lives of its lightningd.
#[derive(Clone, Debug, Default)]
pub struct Oracle(Arc<Mutex<Memory>>);

impl Oracle {
    fn with<T>(&self, f: impl FnOnce(&mut Memory) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// lightningd starts.
    pub fn started(&self) {
        self.with(|memory| memory.events.push(Event::Start));
    }

    /// The whole file was rewritten.
    pub fn vacuumed(&self) {
        self.with(|memory| memory.events.push(Event::Vacuum));
    }

    /// A batch that leads from version `before` to `after` is sent. Whether the one before it, whose reply was lost,
    /// is in the database shows here.
    pub fn sent(&self, before: u64, after: u64, writes: &[Vec<u8>]) {
        self.with(|memory| {
            if let Some((version, pending)) = memory.pending.take()
                && version == memory.version + 1
                && version == before
            {
                memory.events.push(Event::Batch(version, pending));
                memory.version = version;
            }
            memory.pending = Some((after, writes.to_vec()));
        });
    }

    /// The batch that was sent last may be committed, and is acted on from here. Fails where that would lose or
    /// repeat something.
    pub fn acknowledged(&self, before: u64) -> Result<()> {
        self.with(|memory| {
            let (after, writes) = memory.pending.take().context("nothing was sent")?;
            ensure!(
                before == memory.version,
                "a batch from version {before} to {after} was accepted, but the node has acted on {}",
                memory.version
            );
            memory.events.push(Event::Batch(after, writes));
            memory.version = after;
            Ok(())
        })
    }

    /// Writes that no plugin was there to hear.
    pub fn unreported(&self, after: u64, writes: Vec<Vec<u8>>) {
        self.with(|memory| {
            memory.events.push(Event::Batch(after, writes));
            memory.version = after;
        });
    }

    /// The version that the node acted on last.
    pub fn version(&self) -> u64 {
        self.with(|memory| memory.version)
    }

    /// How many batches it acted on.
    pub fn batches(&self) -> usize {
        self.with(|memory| {
            memory
                .events
                .iter()
                .filter(|event| matches!(event, Event::Batch(..)))
                .count()
        })
    }

    /// Fails unless a closed database holds exactly what was acted on, in this order and each batch once.
    pub fn check(&self, database: &Path) -> Result<Equal> {
        self.check_at(u64::MAX, database)
    }

    /// The same for the state as it was once this version was reached, and nothing after it.
    pub fn check_at(&self, version: u64, database: &Path) -> Result<Equal> {
        let replayed = self.replay(version)?;
        let copy = compare::Copy::open(database)?;
        let integrity: String = copy
            .connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        ensure!(integrity == "ok", "{}: {integrity}", database.display());
        compare_open(replayed.connection(), &copy.connection)?.map_err(|difference| {
            anyhow::anyhow!(
                "{} is not what the node acted on: {difference}",
                database.display()
            )
        })
    }

    fn replay(&self, until: u64) -> Result<Replayer> {
        let mut replayer = Replayer::new(Connection::open_in_memory()?)?;
        self.with(|memory| {
            for event in &memory.events {
                match event {
                    Event::Batch(version, _) if *version > until => break,
                    Event::Batch(version, writes) => {
                        replayer
                            .apply(writes)
                            .with_context(|| format!("batch of version {version}"))?;
                    }
                    Event::Vacuum => replayer.connection().execute_batch("VACUUM")?,
                    Event::Start => replayer.start_run()?,
                }
            }
            Ok(replayer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes() -> Vec<Vec<u8>> {
        vec![b"UPDATE".to_vec()]
    }

    #[test]
    fn an_acknowledged_batch_can_neither_be_lost_nor_repeated() {
        let oracle = Oracle::default();
        oracle.sent(0, 1, &writes());
        oracle.acknowledged(0).unwrap();
        oracle.sent(0, 1, &writes());
        assert!(oracle.acknowledged(0).is_err(), "version 1 was lost");
        oracle.sent(2, 3, &writes());
        assert!(oracle.acknowledged(2).is_err(), "version 2 is nobody's");
    }

    #[test]
    fn a_batch_whose_reply_was_lost_counts_once_the_next_one_builds_on_it() {
        let oracle = Oracle::default();
        oracle.sent(0, 1, &writes());
        oracle.acknowledged(0).unwrap();
        oracle.sent(1, 2, &writes());
        oracle.sent(2, 3, &writes());
        oracle.acknowledged(2).unwrap();
        assert_eq!((oracle.version(), oracle.batches()), (3, 3));
        oracle.sent(3, 4, &writes());
        oracle.sent(3, 4, &writes());
        oracle.acknowledged(3).unwrap();
        assert_eq!((oracle.version(), oracle.batches()), (4, 4));
    }
}
