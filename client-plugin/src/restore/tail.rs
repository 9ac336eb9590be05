//! The records from a snapshot, or from the very first one, up to the head: checked, opened and applied.

use super::{
    Goal, Until,
    chain::Chain,
    error::{BadChain, RestoreError},
    policy,
};
use crate::{
    keys::RecordKey,
    record::{Content, Opener, Policy},
    replay::{
        Durability, Replay, ReplayError,
        check::{self, Orphan},
    },
    snapshot::{Base, Manifest},
};
use backstop_protocol::{
    clock::UnixMillis,
    id::{NodeId, ServerKey, TimelineId},
    record::{RecordHeader, RecordKind},
};
use bytes::Bytes;
use std::{collections::BTreeSet, fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path};

/// A database that is brought forward record by record.
pub(super) struct Tail {
    chain: Chain,
    opener: Opener,
    replay: Replay,
    base: Option<Base>,
    goal: Goal,
    until: Option<Until>,
    arrived: bool,
    summary: Summary,
    /// Rows without a parent that the snapshot brought along.
    inherited: BTreeSet<Orphan>,
}

/// What was found true of the complete database.
pub(super) struct Proof {
    pub(super) data_version: u64,
    pub(super) node: Option<NodeId>,
    pub(super) orphans: usize,
}

/// What came by.
#[derive(Clone, Debug, Default)]
pub(super) struct Summary {
    /// The last record that is in the database; the base's where none came after it.
    pub(super) seq: u64,
    /// Records after the base.
    pub(super) records: u64,
    /// When the last record was received, by the server's clock.
    pub(super) received_at: Option<UnixMillis>,
    /// The newest policy.
    pub(super) policy: Option<Policy>,
    /// The version that the manifest, and then each batch, named.
    pub(super) data_version: Option<u64>,
}

impl Tail {
    /// Opens the database, a copy of the manifest's where there is one, to be brought to `goal` by records from
    /// `start` on: those up to the base are checked and read for what later ones refer to, and not applied.
    pub(super) fn begin(
        database: &Path,
        key: &RecordKey,
        timeline: TimelineId,
        start: u64,
        manifest: Option<&Manifest>,
        goal: Goal,
        until: Option<Until>,
    ) -> Result<Self, RestoreError> {
        let base = manifest.map(|manifest| manifest.base);
        let seq = base.map_or(0, |base| base.seq);
        if manifest.is_none() {
            // SQLite would let others read what it creates, as far as the umask does.
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(database);
            created.map_err(|error| RestoreError::io(database, error))?;
        }
        let replay = Replay::open(database, Durability::Off).map_err(|error| at(seq, error))?;
        let mut summary = Summary {
            seq,
            ..Summary::default()
        };
        if let Some(manifest) = manifest {
            // The manifest's binding: this database, at this version, belongs behind that record.
            let found = replay.data_version();
            if found != Some(manifest.data_version) {
                return Err(RestoreError::Version {
                    expected: manifest.data_version,
                    found,
                });
            }
            summary.data_version = found;
            summary.policy = carried(key, manifest)?;
        }
        Ok(Self {
            chain: Chain::enter(timeline, start, base),
            opener: Opener::new(key),
            replay,
            base,
            goal,
            until,
            arrived: false,
            summary,
            inherited: BTreeSet::new(),
        })
    }

    /// Looks which rows of the snapshot lack a parent already. A restore must not fail for what the node lived with.
    pub(super) fn look_for_orphans(&mut self) -> Result<(), RestoreError> {
        if self.base.is_some() {
            self.inherited = check::orphans(self.replay.database()).map_err(RestoreError::Database)?;
        }
        Ok(())
    }

    /// Whether the place at which to stop was reached, and a later record was seen.
    pub(super) fn has_arrived(&self) -> bool {
        self.arrived
    }

    /// What came by so far.
    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The place of the next record.
    pub(super) fn next(&self) -> u64 {
        self.chain.next()
    }

    /// Takes one page of records.
    pub(super) fn take(&mut self, page: &[(UnixMillis, Bytes)]) -> Result<(), RestoreError> {
        for (received_at, sealed) in page {
            let seq = self.chain.next();
            if seq > self.last() {
                return self.look_beyond(seq);
            }
            self.chain.take(sealed)?;
            let (_, content) = self
                .opener
                .open(sealed)
                .map_err(|error| RestoreError::Record { seq, error })?;
            if self.base.is_some_and(|base| seq <= base.seq) {
                continue;
            }
            if self.is_newer(&content) {
                self.arrived = true;
                return Ok(());
            }
            self.apply(seq, content)?;
            self.summary.seq = seq;
            self.summary.records += 1;
            self.summary.received_at = Some(*received_at);
        }
        Ok(())
    }

    /// The last record to be applied, as far as its seq tells.
    fn last(&self) -> u64 {
        match self.until {
            Some(Until::Record(seq)) => seq,
            _ => self.goal.head().seq,
        }
    }

    /// A record came after the last one: nobody else writes behind a fence; elsewhere the node may just go on.
    fn look_beyond(&mut self, found: u64) -> Result<(), RestoreError> {
        let expected = self.goal.head().seq;
        match self.goal {
            Goal::Fenced(_) if found > expected => Err(BadChain::Seq { expected, found }.into()),
            _ => {
                self.arrived = true;
                Ok(())
            }
        }
    }

    /// Whether the content leads beyond the version at which to stop.
    fn is_newer(&self, content: &Content) -> bool {
        let Some(Until::Version(until)) = self.until else {
            return false;
        };
        match content {
            Content::Batch(batch) => batch.data_version > until,
            Content::Gap(gap) => gap.data_version > until,
            Content::Policy(_) => false,
        }
    }

    /// The chain must end in the goal's head, or lead to what was asked for.
    pub(super) fn end(&self) -> Result<(), RestoreError> {
        match self.until {
            Some(Until::Version(expected)) if self.summary.data_version != Some(expected) => {
                Err(RestoreError::Version {
                    expected,
                    found: self.summary.data_version,
                })
            }
            Some(Until::Version(_)) if self.arrived => Ok(()),
            Some(Until::Record(seq)) if seq != self.goal.head().seq => Ok(self.chain.end_at(seq)?),
            _ => Ok(self.chain.end(&self.goal.head())?),
        }
    }

    /// The node's last word on its servers must be the one that the caller went by.
    pub(super) fn follows(&self, expected: Option<&Policy>) -> Result<(), RestoreError> {
        match (&self.summary.policy, expected) {
            (Some(found), Some(expected)) if !policy::same(found, expected) => {
                Err(RestoreError::Policy(Box::new(found.clone())))
            }
            _ => Ok(()),
        }
    }

    /// Checks the database as it stands now: it must be whole, the node's, at the version of the last batch, and the
    /// server one of those that the node wrote to.
    pub(super) fn prove(&self, node: NodeId, server: ServerKey) -> Result<Proof, RestoreError> {
        if let Some(policy) = &self.summary.policy
            && !policy.servers.iter().any(|known| known.key == server)
        {
            let urls: Vec<_> = policy.servers.iter().map(|known| known.url.as_str()).collect();
            return Err(RestoreError::Elsewhere {
                urls: urls.join(" and "),
            });
        }
        let database = self.replay.database();
        let ask = RestoreError::Database;
        let expected = self.summary.data_version.ok_or(RestoreError::Nothing)?;
        if let Some(complaint) = check::integrity(database).map_err(ask)? {
            return Err(RestoreError::Damaged(complaint));
        }
        let orphans = check::orphans(database).map_err(ask)?;
        if let Some(new) = orphans.difference(&self.inherited).next() {
            let Orphan {
                table, rowid, parent, ..
            } = new.clone();
            return Err(RestoreError::Orphan { table, rowid, parent });
        }
        let found = check::node_id(database).map_err(ask)?;
        if let Some(found) = found.filter(|found| *found != node) {
            return Err(RestoreError::Node {
                expected: node,
                found,
            });
        }
        match check::data_version(database).map_err(ask)? {
            Some(version) if version == expected => Ok(Proof {
                data_version: version,
                node: found,
                orphans: orphans.len(),
            }),
            found => Err(RestoreError::Version { expected, found }),
        }
    }

    /// Flushes the database.
    pub(super) fn finish(self) -> Result<Summary, RestoreError> {
        let Self { replay, summary, .. } = self;
        replay.finish().map_err(|error| at(summary.seq, error))?;
        Ok(summary)
    }

    fn apply(&mut self, seq: u64, content: Content) -> Result<(), RestoreError> {
        match content {
            Content::Batch(batch) => {
                self.replay.apply(&batch).map_err(|error| at(seq, error))?;
                self.summary.data_version = Some(batch.data_version);
            }
            // A snapshot that bridges it would have been the base.
            Content::Gap(gap) => {
                return Err(RestoreError::Gap {
                    seq,
                    snapshot: gap.snapshot,
                });
            }
            Content::Policy(policy) => self.summary.policy = Some(policy),
        }
        Ok(())
    }
}

/// With which record reading must begin so that everything from `first` on, where `page` starts, can be opened.
pub(crate) fn start(key: &RecordKey, first: u64, page: &[(UnixMillis, Bytes)]) -> Result<u64, RestoreError> {
    let is_batch =
        |sealed: &Bytes| RecordHeader::parse(sealed).is_ok_and(|header| header.kind == RecordKind::Batch);
    let Some((seq, (_, batch))) = (first..).zip(page).find(|(_, (_, sealed))| is_batch(sealed)) else {
        return Ok(first);
    };
    let peek = Opener::new(key)
        .peek(batch)
        .map_err(|error| RestoreError::Record { seq, error })?;
    Ok(peek.context_seq.min(first))
}

/// The policy that the manifest carries: the policy record itself, sealed as it stood in the log.
fn carried(key: &RecordKey, manifest: &Manifest) -> Result<Option<Policy>, RestoreError> {
    let Some(sealed) = &manifest.policy else {
        return Ok(None);
    };
    match Opener::new(key).open(sealed) {
        Ok((header, Content::Policy(policy)))
            if header.timeline == manifest.base.timeline && header.seq <= manifest.base.seq =>
        {
            Ok(Some(policy))
        }
        Ok(_) => Err(RestoreError::Foreign(manifest.snapshot)),
        Err(error) => Err(RestoreError::Record {
            seq: manifest.base.seq,
            error,
        }),
    }
}

fn at(seq: u64, error: ReplayError) -> RestoreError {
    if error.is_full() {
        RestoreError::Full
    } else {
        RestoreError::Replay { seq, error }
    }
}
