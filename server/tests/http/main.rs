//! The server over real connections: every call, every refusal, and what must survive.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper of tests fails as a test does"
)]

mod alarms;
mod appends;
mod bucket;
mod connections;
mod files;
mod fleet;
mod grants;
mod history;
mod load;
mod looking_after;
mod migrate;
mod openapi;
mod openings;
mod operations;
mod operator;
mod pages;
mod postgres;
mod process;
mod rates;
mod receipts;
mod restored;
mod settings;
mod snapshots;
mod support;
mod tenants;
mod tls;
mod transport;
mod waiting;
