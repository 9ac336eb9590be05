//! Which access keys are nodes' of this server: their openings do not stand in the line of all strangers.
//!
//! A flood of calls without a session uses up what all addresses have together. An opening that comes then is not refused
//! before its signature was looked at: one of a key that a grant is remembered for has the key's own limit alone. What that
//! costs is a signature for each stranger's opening, and a look into the database for some of the keys that no session was
//! opened with since this process started.

use super::App;
use backstop_protocol::{clock::UnixMillis, id::AccessKey};
use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Keys in each half of what is remembered.
const KEYS_MAX: usize = 32_768;

/// The request is one too many for a stranger, who would have to wait so long.
#[derive(Clone, Copy)]
pub(super) struct Crowded(pub(super) Duration);

/// Keys that opened a session here; the older half goes when the younger one is full.
#[derive(Default)]
pub(crate) struct KnownKeys(Mutex<[HashSet<AccessKey>; 2]>);

impl KnownKeys {
    /// A session was opened with it.
    pub(super) fn remember(&self, key: AccessKey) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *halves;
        if young.len() >= KEYS_MAX && !young.contains(&key) {
            *old = std::mem::take(young);
        }
        young.insert(key);
    }

    fn holds(&self, key: AccessKey) -> bool {
        let halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.iter().any(|half| half.contains(&key))
    }
}

/// Whether a key, whose signature fits, may open a session however many strangers come.
pub(super) async fn is_known(app: &App, key: AccessKey, now: UnixMillis) -> bool {
    if app.known.holds(key) {
        return true;
    }
    if app.limiter.look_up(now).is_err() {
        return false;
    }
    let found = app.store.grants(key).await;
    let known = found.is_ok_and(|grants| !grants.is_empty());
    if known {
        app.known.remember(key);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_open_what_is_remembered_stays_bounded_and_the_latest_are_known() {
        let known = KnownKeys::default();
        let key = |at: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&at.to_be_bytes());
            AccessKey(bytes)
        };
        for at in 0..3 * KEYS_MAX {
            known.remember(key(at));
        }
        assert!(known.holds(key(3 * KEYS_MAX - 1)) && !known.holds(key(0)));
        let halves = known.0.lock().unwrap();
        assert!(halves.iter().all(|half| half.len() <= KEYS_MAX));
    }
}
