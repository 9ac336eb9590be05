//! Which access keys are nodes' of this server: their openings do not stand in the line of all strangers.
//!
//! A flood of calls without a session uses up what all addresses have together. An opening that comes then is not refused
//! before its signature was looked at: one of a key that a grant is remembered for has the key's own limit alone. What that
//! costs is a signature for each stranger's opening, and a look into the database for some of the keys that no session was
//! opened with since this process started.

use super::App;
use crate::recent::Recent;
use backstop_protocol::{clock::UnixMillis, id::AccessKey};
use std::time::Duration;

/// The request is one too many for a stranger, who would have to wait so long.
#[derive(Clone, Copy)]
pub(super) struct Crowded(pub(super) Duration);

/// Keys that opened a session here lately.
pub(crate) type KnownKeys = Recent<AccessKey, 32_768>;

/// Whether a key, whose signature fits, may open a session however many strangers come.
pub(super) async fn is_known(app: &App, key: AccessKey, now: UnixMillis) -> bool {
    if app.known.holds(&key) {
        return true;
    }
    if app.limiter.look_up(now).is_err() {
        return false;
    }
    let found = app.store.grants(key).await;
    let known = found.is_ok_and(|grants| !grants.is_empty());
    if known {
        app.known.add(key);
    }
    known
}
