//! A database in chunks, packs and a manifest (SPEC 6).
//!
//! Out: [`copy`] where the live file must be read, [`index`] names its chunks, [`mod@upload`] seals and sends what the server
//! lacks, fetches it again, and commits a [`manifest`]. Back: [`mod@fetch`] checks every chunk and writes the file again.

pub mod chunk;
mod commit;
pub mod copy;
pub mod fetch;
pub mod index;
mod kept;
mod known;
mod located;
pub mod manifest;
mod prove;
mod scratch;
mod sealing;
mod server;
mod spot;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod upload;

pub use fetch::{FetchError, fetch, go_on};
pub use known::KnownChunks;
pub use manifest::{BadManifest, Base, Manifest};
pub use scratch::ScratchError;
pub use sealing::Pace;
pub use server::ChunkServer;
pub use spot::Spot;
pub use target::Flushing;
pub use upload::{Named, Plan, UploadError, Uploaded, read_ahead, upload, upload_named};
