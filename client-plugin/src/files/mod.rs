//! The files beside a node's database: CLN's `emergency.recover` and the operator's configuration (SPEC 6.7).
//!
//! `gather` reads what the configuration lists, and never a secret; [`Files`] is sealed as one and sent; a restore
//! puts each back where it came from, and never over a file that is there.

mod content;
mod fetch;
mod gather;
mod name;

pub use content::{BadFiles, File, Files};
pub use fetch::{FetchFilesError, fetch};
pub use gather::{Gathered, LeftOut, gather};
pub use name::{BadName, FileName};
