//! The server: keeps encrypted, always-current backups of Core Lightning nodes, and cannot read them (I10).
//!
//! A record's way in: `http::session` recognises the token, reads the body and checks its MAC; `http::records` parses
//! the clear header; [`store::Store::append`] judges it against the account's chain and commits it together with whatever
//! else waits; only then `http::seal` signs the answer, which means that the record is durable (I1).

mod amounts;
pub mod cli;
mod config;
mod data_dir;
mod durable;
mod error;
mod gauges;
mod housekeeping;
mod http;
mod identity;
mod metrics;
mod notify;
mod operations;
pub mod packs;
mod rates;
mod recent;
mod rest;
mod scrub;
mod server;
pub mod sessions;
pub mod store;
mod transport;
mod web;
mod webhooks;

pub use config::{BODY_RATE, Config, DEFAULT_LISTEN, DatabaseUrl};
pub use data_dir::{DataDirError, default_data_dir};
pub use identity::IdentityError;
pub use rates::Rates;
pub use server::{Server, ServerError};
pub use transport::{BadCidr, Certificates, Cidr, Limits, TlsError, TlsFiles};
pub use web::{AdminToken, BadAdminToken};
pub use webhooks::{BadWebhook, Webhook};
