//! The settings of the pages for people, and how a secret is read from a file.

use crate::AdminToken;
use anyhow::Context as _;
use clap::{ArgAction, Args};
use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

#[derive(Debug, Args)]
#[command(next_help_heading = "Pages for people")]
pub(super) struct Pages {
    /// Show a node's owner his backup at the server's address, once his node has signed that it is his.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(super) web: bool,
    /// Show all nodes at /fleet where the metrics are, to whoever has the token in this file: one that only its owner can
    /// read, with 16 to 256 bytes, such as openssl rand -hex 16 makes. Without it there is no such page.
    #[arg(long, value_name = "FILE")]
    web_admin_token: Option<PathBuf>,
}

impl Pages {
    /// What the operator shows, if anything.
    pub(super) fn admin(&self, metrics: Option<SocketAddr>) -> anyhow::Result<Option<AdminToken>> {
        let Some(file) = &self.web_admin_token else {
            return Ok(None);
        };
        anyhow::ensure!(
            metrics.is_some(),
            "--web-admin-token needs --metrics ADDR:PORT: the fleet is shown there and not where nodes call"
        );
        let token = secret("--web-admin-token", file)?;
        let token =
            AdminToken::new(&token).with_context(|| format!("--web-admin-token {}", file.display()))?;
        Ok(Some(token))
    }
}

/// What a file holds that others must not read.
pub(super) fn secret(flag: &str, file: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let shown = file.display();
    let metadata = std::fs::metadata(file).with_context(|| format!("{flag} {shown}"))?;
    anyhow::ensure!(
        metadata.permissions().mode().trailing_zeros() >= 6,
        "others can read {shown}; run chmod 600 {shown}"
    );
    let secret = std::fs::read(file).with_context(|| format!("{flag} {shown}"))?;
    Ok(Zeroizing::new(secret))
}
