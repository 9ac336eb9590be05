//! How a lightningd ends before its time.

use crate::plugin::NoReply;

/// Why lightningd is no more. Nothing of the open transaction was committed, except where it says so.
#[derive(Debug, thiserror::Error)]
pub enum Death {
    /// The plugin did not answer `getmanifest` or `init` as it must.
    #[error("lightningd refuses the plugin: {0}")]
    Manifest(String),
    /// `db_write` was answered, not with `continue`.
    #[error("the plugin refused a db_write: {0}")]
    Refused(String),
    /// No answer came.
    #[error("while waiting for {during}: {why}")]
    NoReply {
        /// The call.
        during: &'static str,
        /// Why not.
        why: NoReply,
    },
    /// The test had lightningd, or the whole machine, killed at this moment.
    #[error("killed at {0:?}")]
    Killed(Moment),
    /// The database failed.
    #[error("the wallet: {0:#}")]
    Wallet(#[from] anyhow::Error),
}

/// Moments around one call of the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The statements are executed, nothing is sent.
    Executed,
    /// This many bytes of the request are sent.
    Half(usize),
    /// The request is sent whole.
    Sent,
    /// The plugin said `continue`, nothing is committed.
    Continued,
    /// It is committed.
    Committed,
}

/// Who dies, by `kill -9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The plugin alone; lightningd finds out by itself.
    Plugin,
    /// lightningd alone; the plugin becomes an orphan.
    Lightningd,
    /// Both at once.
    Machine,
}

/// One death to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// In which call of the hook from now on, counted from 0.
    pub batch: u64,
    /// When in it.
    pub moment: Moment,
    /// Who.
    pub victim: Victim,
}

/// A start that ended in death, and what is left to look at.
#[derive(Debug, thiserror::Error)]
#[error("{death}\n{says}")]
pub struct FailedStart {
    /// Why.
    pub death: Death,
    /// Log and stderr of the plugin.
    pub says: String,
}
