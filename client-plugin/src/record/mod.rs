//! One batch, gap or policy, sealed (SPEC 5).

pub mod padding;

use backstop_protocol::id::RunId;

/// One `db_write`, as lightningd sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The life of the plugin that took it.
    pub run: RunId,
    /// Whether it is the first of its run.
    pub opens_run: bool,
    /// Whether it ran outside any transaction: PRAGMAs alone.
    pub outside_transaction: bool,
    /// CLN's counter after the batch.
    pub data_version: u64,
    /// The statements, in order; not always UTF-8.
    pub statements: Vec<Vec<u8>>,
}
