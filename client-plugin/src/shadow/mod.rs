//! The shadow: this machine's own copy of the database, the last snapshot and every record since.
//!
//! It is made of what the backup holds and of nothing else, so a snapshot of it is by construction what a restore
//! gives, and comparing it with the live database proves the backup. It is worth no flush: a kill of the process costs
//! nothing, and after a power cut it is made again from the backup.
//!
//! | file in `backstop/shadow/` | what |
//! |---|---|
//! | `database.sqlite3` | the database |
//! | `position` | the record that it had reached, and whether a power cut can have hurt it since |
//! | `chunks` | the chunks of the newest snapshot, so that the next one's list travels as a difference |

mod catch_up;
mod position;
#[cfg(test)]
mod tests;

pub use catch_up::{catch_up, rebuild};
pub use position::Position;

use crate::{
    directory::DirectoryError,
    record::{Batch, Content, OpenError},
    remote::RemoteError,
    replay::{Durability, Replay, ReplayError},
    restore::{BadChain, RestoreError},
    snapshot::{self, Base},
};
use backstop_protocol::{head::Head, id::TimelineId};
use bytes::Bytes;
use std::{
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

const DATABASE: &str = "database.sqlite3";
/// What is being downloaded to become the database.
const FETCHED: &str = "fetched.sqlite3";

/// Why the shadow cannot go on. It is of no use then and can be made again; the backup is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShadowError {
    /// A file of it.
    #[error("the shadow's files cannot be used: {0}")]
    Io(#[from] io::Error),
    /// A directory of it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A batch did not apply.
    #[error("an update does not fit the shadow: {0}")]
    Replay(#[from] ReplayError),
    /// The database went on outside the log: only a snapshot leads further.
    #[error("the database went on outside the log")]
    Gap,
    /// The log does not lead on from where the shadow stands.
    #[error("the log does not lead on from where the shadow stands: {0}")]
    Chain(#[from] BadChain),
    /// A record that this node's key does not open.
    #[error("a record cannot be opened: {0}")]
    Record(#[from] OpenError),
    /// It could not be made from the backup.
    #[error("the shadow cannot be made from the backup: {0}")]
    Rebuild(#[from] RestoreError),
    /// The server.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl ShadowError {
    /// Whether this machine's disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io(error) => crate::replay::is_full(error),
            Self::Replay(error) => error.is_full(),
            Self::Rebuild(error) => matches!(error, RestoreError::Full),
            _ => false,
        }
    }

    /// Whether what the server gave is at fault, and not this machine or the line, given that the shadow was made of
    /// nothing else.
    #[must_use]
    pub fn blames_backup(&self) -> bool {
        match self {
            Self::Replay(error) => error.blames_batch(),
            Self::Gap | Self::Chain(_) | Self::Record(_) => true,
            Self::Rebuild(error) => error.blames_backup(),
            Self::Io(_) | Self::Directory(_) | Self::Remote(_) => false,
        }
    }
}

/// The database, open, and the record that it has reached.
pub struct Shadow {
    dir: PathBuf,
    replay: Replay,
    position: Position,
}

impl Shadow {
    /// Opens what an earlier run left; `None` where there is nothing of this timeline, or a power cut can have hurt it.
    pub fn open(dir: &Path, timeline: TimelineId) -> Result<Option<Self>, ShadowError> {
        let Some(position) = Position::read(dir)? else {
            return Ok(None);
        };
        if position.timeline != timeline || !position.survived() || !dir.join(DATABASE).exists() {
            return Ok(None);
        }
        Self::at(dir, position).map(Some)
    }

    /// An empty database, before the first record.
    pub fn empty(dir: &Path, timeline: TimelineId) -> Result<Self, ShadowError> {
        clear(dir)?;
        Self::at(dir, Position::before_all(timeline))
    }

    /// Takes a database file for its own: the state after `base`, complete by itself, on the same file system.
    /// `policy` is the last policy record up to there, sealed.
    #[expect(clippy::disallowed_methods, reason = "the shadow is worth no flush")]
    pub fn adopt(
        dir: &Path,
        database: &Path,
        base: Base,
        policy: Option<Vec<u8>>,
    ) -> Result<Self, ShadowError> {
        vacate(dir)?;
        std::fs::rename(database, dir.join(DATABASE))?;
        Self::at(dir, Position::after(base, policy))
    }

    fn at(dir: &Path, position: Position) -> Result<Self, ShadowError> {
        // From here on a power cut can hurt the file; that must be known before it is first written to.
        position.write(dir, false)?;
        Ok(Self {
            replay: Replay::open(&dir.join(DATABASE), Durability::Process)?,
            dir: dir.to_owned(),
            position,
        })
    }

    /// The record that it has reached.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The database, for questions.
    #[must_use]
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Takes the next record of the log; `sealed` is wanted where it is a policy. What it has already, as after a kill
    /// before the position was saved, changes nothing.
    pub fn take(&mut self, head: Head, content: &Content, sealed: &Bytes) -> Result<(), ShadowError> {
        match content {
            Content::Batch(batch) if !self.has(batch) => self.replay.apply(batch)?,
            Content::Batch(_) => {}
            Content::Policy(_) => self.position.policy = sealed.to_vec(),
            Content::Gap(_) => return Err(ShadowError::Gap),
        }
        self.position.seq = head.seq;
        self.position.hash = head.hash;
        Ok(())
    }

    /// A batch of PRAGMAs repeats its version; taking it twice at that version does what taking it once does.
    fn has(&self, batch: &Batch) -> bool {
        let version = self.replay.data_version();
        version.is_some_and(|version| {
            batch.data_version < version || (batch.data_version == version && !batch.outside_transaction)
        })
    }

    /// Notes how far it is, so that less of the log is read again after a kill. Not where foreign keys are off, between
    /// two batches of PRAGMAs: whoever opens it again has them on.
    pub fn save(&self) -> Result<(), ShadowError> {
        if self.replay.foreign_keys()? {
            self.position.write(&self.dir, false)?;
        }
        Ok(())
    }

    /// Flushes everything: this shadow survives a power cut until it is opened again.
    pub fn settle(self) -> Result<(), ShadowError> {
        let Self {
            dir,
            replay,
            position,
        } = self;
        replay.finish()?;
        Ok(position.write(&dir, true)?)
    }

    /// Closes the database, so that its file can be read; nothing is written to it until it is thawed.
    pub fn freeze(self) -> Result<Frozen, ShadowError> {
        let Self {
            dir,
            replay,
            position,
        } = self;
        position.write(&dir, false)?;
        let data_version = replay.data_version();
        replay.close()?;
        Ok(Frozen {
            dir,
            position,
            data_version,
        })
    }
}

/// A shadow that stands still.
pub struct Frozen {
    dir: PathBuf,
    position: Position,
    data_version: Option<u64>,
}

impl Frozen {
    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir.join(DATABASE)
    }

    /// The record after which the database stood so.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// CLN's counter in the database; `None` before there is one.
    #[must_use]
    pub fn data_version(&self) -> Option<u64> {
        self.data_version
    }

    /// Opens it again.
    pub fn thaw(self) -> Result<Shadow, ShadowError> {
        Shadow::at(&self.dir, self.position)
    }
}

/// Where the chunks of the newest snapshot are written down ([`crate::snapshot::KnownChunks`]).
#[must_use]
pub fn known_chunks(dir: &Path) -> PathBuf {
    dir.join("chunks")
}

/// Removes the shadow where none is to be kept.
pub fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the shadow and what a killed download left, and makes room for another.
pub fn clear(dir: &Path) -> Result<(), ShadowError> {
    vacate(dir)?;
    Ok(snapshot::copy::remove(&dir.join(FETCHED))?)
}

/// Makes the shadow's place free.
fn vacate(dir: &Path) -> Result<(), ShadowError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    // Without a position nobody takes what may be left for a shadow.
    Position::remove(dir)?;
    Ok(snapshot::copy::remove(&dir.join(DATABASE))?)
}
