//! Whom the addresses that a server listens on are within reach of.

use super::ServerError;
use crate::{config::Config, transport::Certificates};
use std::net::SocketAddr;

pub(super) fn warn_of_shown_metrics(config: &Config) {
    if let Some(address) = config.metrics.filter(|address| !local(*address)) {
        tracing::warn!(
            nodes = config.metrics_nodes,
            "others can reach {address}, where metrics are shown in plain HTTP, and so many nodes by name"
        );
    }
}

/// Reads the certificate; without one, refuses an address that others reach, unless they may.
pub(crate) fn check_exposure(config: &Config) -> Result<Option<Certificates>, ServerError> {
    match &config.tls {
        Some(files) => Ok(Some(Certificates::load(files.clone())?)),
        None if local(config.listen) || config.plain_http => Ok(None),
        None => Err(ServerError::Exposed {
            listen: config.listen,
        }),
    }
}

/// Whether this machine alone can reach an address.
fn local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
