//! What a Backstop client and a Backstop server must agree on, and nothing else.
//!
//! `SPEC.md` beside this crate is the normative text; each module names the section it follows.
//! There is no I/O here and no cipher: a server that links this crate cannot read what it stores (I10).
//!
//! | module | noun |
//! |---|---|
//! | [`id`] | names: nodes, networks, timelines, runs, hashes |
//! | [`head`] | a place in a chain |
//! | [`record`] | the clear header of a sealed record, and the rules of the chain |
//! | [`chunk`], [`pack`] | pieces of a database file, and the objects that hold them |
//! | [`snapshot`] | the commit of a snapshot |
//! | [`files`] | the files beside the database |
//! | [`signmessage`], [`grant`], [`revocation`], [`login`] | statements signed by a node's key |
//! | [`session`] | opening a session, and the MAC of each request and answer |
//! | [`receipt`] | a head under the server's own signature |
//! | [`problem`] | refusals with stable codes |
//! | [`quota`] | how much room a server gives a node |
//! | [`removal`] | "remove my backup", signed by a node's key |
//! | [`api`] | paths, headers, limits and bodies of the HTTP calls |
//! | [`clock`] | time, passed in |

pub mod api;
pub mod bytes;
pub mod chunk;
pub mod clock;
pub mod files;
pub mod grant;
pub mod hash;
pub mod head;
pub mod id;
pub mod login;
pub mod pack;
pub mod problem;
pub mod quota;
pub mod receipt;
pub mod record;
pub mod removal;
pub mod revocation;
pub mod session;
pub mod signmessage;
pub mod snapshot;

/// The version of formats and calls that this crate speaks; the first path element of every call is `v1`.
pub const PROTOCOL_VERSION: u8 = 1;

/// The first four bytes of everything Backstop stores: records, packs, manifests.
pub const MAGIC: [u8; 4] = *b"BKSP";
