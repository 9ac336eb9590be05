//! One batch, gap or policy, sealed (SPEC 5).
//!
//! A [`Content`] becomes bytes in four steps, each in a file of its own, and comes back by the same four:
//!
//! ```text
//! statements ──▶ stream ──▶ (deflated) stream ──▶ content ──▶ padded ──▶ sealed record
//!            codec        deflate              content     padding    seal
//!              │
//!              └─ remembers statement shapes and whole values in a `context`, for the records that follow
//! ```
//!
//! Compression before encryption lets an observer of sizes ask questions about the plaintext. Therefore nothing of
//! one record takes part in the compression of another, except the shapes of statements and the fact that a whole
//! value was seen before; bytes are only ever compared piece by piece inside one record.

mod codec;
mod content;
mod context;
pub(crate) mod deflate;
mod number;
mod open;
pub mod padding;
mod seal;
mod sql;
mod value;

#[cfg(test)]
mod bad_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace_tests;

pub use content::{Batch, Content, Gap, Policy, PolicyServer, Require};
pub use context::{CONTEXT_RECORDS, CONTEXT_WEIGHT};
pub use open::{OpenError, Opener, Peek};
pub use seal::{Compression, Place, SealError, Sealed, Sealer};

/// Most bytes of SQL in one record: far above what CLN can hold in one transaction, and a bound for readers.
pub const SQL_MAX: usize = 1 << 30;
/// Most statements in one record.
pub const STATEMENTS_MAX: usize = 1 << 22;
