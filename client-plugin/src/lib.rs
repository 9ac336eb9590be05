//! Encrypted, continuous backup of a Core Lightning node.
//!
//! Data flows one way. Out: `plugin` takes a batch from lightningd, `record` seals it, `remote` sends it, and only
//! then may lightningd commit. Back: `remote` fetches, `record` and `snapshot` open and check, `replay` writes a
//! database, `restore` puts it in place.
//!
//! | module | noun |
//! |---|---|
//! | [`cln`] | Core Lightning as it is: secrets, RPC, files, database |
//! | [`keys`] | the root secret and what is derived from it |
//! | [`record`] | one batch, gap or policy, sealed |
//! | [`snapshot`] | a database in chunks, packs and a manifest |
//! | [`files`] | the files beside the database, sealed as one |
//! | [`remote`] | one server, over HTTP |
//! | [`quorum`] | all servers of a node: opening, the same records to each, catching up |
//! | [`directory`] | `backstop/` in the lightning-dir: configuration, instance, runs, witness |
//! | [`node`] | all of that together, for one node |
//! | [`seat`] | the writer's session, for a second process of its directory |
//! | [`plugin`] | the process that lightningd starts |
//! | [`companion`] | a second process that lightningd starts: commands for `lightning-cli`, and a watch over the first |
//! | [`replay`], [`restore`] | the way back, into a new file |
//! | [`shadow`] | the way back, into a copy that follows the log: roll-ups and proofs are made of it |
//! | [`forward`] | the way back, onto the node's own file |
//! | [`mirror`] | the backup on another device, which follows the server |
//! | [`backup_py`] | the file of another plugin, for those who come from there |
//! | [`random`] | randomness, passed in |
//! | `mapped` | memory for what is large, which goes back to the system |
//! | `blocking` | what computes or waits for a disk, on threads of its own |
//! | [`durable`] | the only place that syncs and renames |
//! | [`cli`] | what a person types |

pub mod backup_py;
mod blocking;
pub mod cli;
pub mod cln;
pub mod companion;
pub mod directory;
pub mod durable;
pub mod files;
#[cfg(test)]
mod fixtures;
pub mod forward;
pub mod keys;
mod mapped;
pub mod mirror;
pub mod node;
pub mod plugin;
pub mod quorum;
pub mod random;
pub mod record;
pub mod remote;
pub mod replay;
pub mod restore;
pub mod seat;
pub mod shadow;
pub mod snapshot;
pub mod spool;
