//! Core Lightning as it is: its secrets, its RPC, its files and its database. Nothing here is Backstop's to define.
//!
//! | module | noun |
//! |---|---|
//! | [`locate`], [`config`] | where a node's files are, as lightning-cli sees it |
//! | [`hsm_secret`], [`mnemonic`] | the file that holds a node's secret, and the words behind it |
//! | [`mod@derive`] | what CLN derives from that secret |
//! | [`rpc`] | a running node, asked over its socket |
//! | [`pidfile`] | whether a node runs |
//! | [`database`] | what a node's database says about itself |

pub mod config;
pub mod database;
pub mod derive;
pub mod hsm_secret;
pub mod locate;
pub mod mnemonic;
pub mod pidfile;
pub mod rpc;
mod secretstream;

pub use derive::{NodeKey, NodeSecret};
pub use hsm_secret::HsmSecret;
pub use locate::NodeDir;
pub use mnemonic::Mnemonic;
pub use rpc::Rpc;
