//! Both sides of Backstop together: the tools that end-to-end tests, the demo and the benchmark share.
//!
//! | module | noun |
//! |---|---|
//! | [`lightningd`] | a simulated lightningd that owns a database and commits only on `continue` |
//! | [`plugin`] | the plugin process under test, [`json_rpc`] what is said to it |
//! | [`wallet`], [`disk`] | the database, and what crashes and power cuts leave of it |
//! | [`schema`], [`workload`], [`statement`] | what a node writes |
//! | [`fixtures`] | a real lightningd's recorded batches and database |
//! | [`replayer`] | batches back into a database, written independently of the product's |
//! | [`heard`] | what a plugin that always agrees was told |
//! | [`oracle`] | what the node acted on, for whatever is lost and found again |
//! | [`halted`] | the last word of a node that does not start, and what a person types then |
//! | [`golden`] | transcripts of the plugin's streams |
//! | [`node`], [`servers`], [`chaos_proxy`] | a node's directory, a real server, a bad network |
//! | [`cluster`] | a real PostgreSQL |
//! | [`signer`], [`device`], [`socks_proxy`] | the node's signature, another device with a mirror, a way to onion services |
//! | [`scene`], [`several`], [`watch`] | all of these together, with one server or several, and what a test waits for there |
//! | [`caller`] | a client of the server that can say anything |
//! | [`browser`] | a real browser, for the server's pages |
//! | [`compare`] | two databases, row by row |
//! | [`figures`] | numbers for people |
//! | [`rng`], [`seeds`] | chance that can be repeated, and many tries of it |
//! | [`binaries`] | where the programs under test are |
//! | [`packages`] | what is installed, and what of it is printed by the programs |
//! | [`tools`] | which other programs tests start, and where they are |
//! | [`shim`], [`callgrind`] | what programs do, counted; and flushes that are slower |
//! | [`mod@bench`] | what all of it costs |

pub mod bench;
pub mod binaries;
pub mod browser;
pub mod caller;
pub mod callgrind;
pub mod chaos_proxy;
#[expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a helper of tests fails as a test does"
)]
pub mod cluster;
pub mod compare;
pub mod device;
pub mod disk;
pub mod figures;
pub mod fixtures;
pub mod golden;
pub mod halted;
pub mod heard;
pub mod json_rpc;
pub mod lightningd;
pub mod node;
pub mod oracle;
pub mod packages;
pub mod plugin;
pub mod replayer;
pub mod rng;
pub mod scene;
pub mod schema;
pub mod seeds;
pub mod servers;
pub mod several;
pub mod shim;
pub mod signer;
pub mod socks_proxy;
pub mod statement;
pub mod tools;
pub mod wallet;
pub mod watch;
pub mod workload;
