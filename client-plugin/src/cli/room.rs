//! The room that a server gives, as `status` says it.

use crate::plugin::Utc;
use backstop_protocol::{
    api::AccountState,
    quota::{Quota, QuotaLevel},
};

/// What is wrong with the room that a server gives, and with how long.
pub(super) fn wrong_with_room(url: &str, account: &AccountState) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(quota) = &account.quota
        && quota.level > QuotaLevel::Near
    {
        wrong.push(format!(
            "The room at {url} is used up: {} of {} bytes, {} at most. Beyond that the node waits before each commit, then \
             halts. Ask the server's operator for more room.",
            quota.used, quota.bytes, quota.most
        ));
    }
    if let Some(at) = account.removal_at {
        wrong.push(format!(
            "{url} removes everything of this node from {} on. If that is wrong, type: backstop delete-backup --undo; where the \
             server's operator asked for it, ask there.",
            Utc(at)
        ));
    }
    wrong
}

/// How much room is left, as a person says it.
pub(super) fn room(quota: &Quota) -> String {
    let what = match quota.level {
        QuotaLevel::Within => "",
        QuotaLevel::Near => ": RUNS OUT, history becomes less; ask the server's operator for more",
        _ => ": USED UP",
    };
    format!("  room     {} of {} bytes used{what}", quota.used, quota.bytes)
}
