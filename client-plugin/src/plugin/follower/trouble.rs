//! Why the shadow cannot go on as it is, and what that means for the backup.

use crate::{
    directory::Directory,
    plugin::stdio::{self, Level},
    remote::RemoteError,
    shadow::ShadowError,
};
use backstop_protocol::problem::ProblemCode;
use std::time::Duration;

/// What the thread met.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The backup was found wrong, and the shadow that was right is gone. Of the backup none can be made now.
    #[error("the copy of the database that was to replace the wrong backup is lost")]
    CopyLost,
    /// A shadow that was made of the backup does not follow it to its head: nor would a restore.
    #[error("THE BACKUP CANNOT BE RESTORED as it is: {0}")]
    Unusable(Box<ShadowError>),
}

impl Trouble {
    /// Whether this run is not the writer any more. The hook says so where it matters.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Remote(error) | Self::Shadow(ShadowError::Remote(error)) => is_fenced(error),
            Self::Shadow(_) | Self::CopyLost | Self::Unusable(_) => false,
        }
    }

    /// Whether the shadow itself is as good as before.
    pub(super) fn spares_shadow(&self) -> bool {
        matches!(self, Self::Remote(_) | Self::Shadow(ShadowError::Remote(_)))
    }

    /// Whether only the next run can do something about it.
    pub(super) fn lasts(&self) -> bool {
        matches!(self, Self::CopyLost | Self::Unusable(_))
    }

    /// Whether what the server gave is at fault, given that the shadow was made of nothing else.
    pub(super) fn blames_backup(&self) -> bool {
        matches!(self, Self::Shadow(error) if error.blames_backup())
    }

    /// Tells the operator; it is tried again in `pause`.
    pub(super) fn tell(&self, directory: &Directory, pause: Duration) {
        let seconds = pause.as_secs();
        let message = match self {
            Self::Shadow(error) if error.is_full() => format!(
                "This machine's disk has no room for the shadow of the database, so roll-ups are put off: the log on the \
                 server grows meanwhile. The backup goes on and is complete; nothing is lost. Make room; it is tried again \
                 in {seconds} s. To do without: shadow.keep = false in {}",
                directory.path().join("config.toml").display()
            ),
            Self::CopyLost | Self::Unusable(_) => format!(
                "{self}. The node goes on, and what a restore gives is wrong until then: restart lightningd now. Its start \
                 uploads a snapshot of its own database, and the backup is right from then on."
            ),
            Self::Remote(error) | Self::Shadow(ShadowError::Remote(error)) => format!(
                "Roll-ups are put off: {error}. The backup itself goes on where batches are acknowledged; tried again in \
                 {seconds} s"
            ),
            Self::Shadow(error) => format!(
                "The shadow of the database is made again from the backup in {seconds} s: {error}. The backup goes on; \
                 nothing is lost."
            ),
        };
        let level = if self.lasts() { Level::Error } else { Level::Warn };
        stdio::log(level, &message);
    }
}

/// Whether another run is the writer.
pub(super) fn is_fenced(error: &RemoteError) -> bool {
    matches!(
        error.code(),
        Some(ProblemCode::Fenced | ProblemCode::OtherInstance | ProblemCode::EpochMismatch)
    )
}
