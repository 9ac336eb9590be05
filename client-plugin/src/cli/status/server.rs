//! What is known of one server of a node, and what is wrong with it.

use crate::{
    cli::room,
    directory::ServerConfig,
    plugin::{Seen, Utc},
    remote::RemoteError,
};
use backstop_protocol::{api::AccountState, head::Head};
use serde::Serialize;

/// What `status --json` has of a server.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct ServerStatus {
    pub(in crate::cli) url: String,
    /// Absent where the server did not answer.
    pub(in crate::cli) account: Option<AccountState>,
    /// Whether what is there restores by itself: a log from its first record, or from a complete snapshot.
    pub(super) restorable: bool,
    /// Whether another server holds more.
    pub(super) behind: bool,
    pub(super) error: Option<String>,
}

impl ServerStatus {
    /// What is known of one server, and what is wrong with it.
    pub(super) fn of(
        server: &ServerConfig,
        looked: Result<(AccountState, Seen), RemoteError>,
        newest: Option<Head>,
    ) -> (Self, Vec<String>) {
        let mut found = Self {
            url: server.url.clone(),
            account: None,
            restorable: false,
            behind: false,
            error: None,
        };
        let mut wrong = Vec::new();
        match looked {
            Ok((account, seen)) => {
                found.restorable = seen.restorable;
                found.behind = newest.is_some_and(|newest| account.head.cmp_place(&newest).is_lt());
                if found.behind {
                    wrong.push(format!(
                        "{} is behind: its log ends at record {}. The plugin brings it up to date in the background.",
                        server.url, account.head.seq
                    ));
                } else if let Some(halt) = seen.halt {
                    wrong.push(halt);
                }
                if !seen.restorable {
                    wrong.push(format!(
                        "{} has nothing complete to restore from yet. Start lightningd with the plugin: its first batch \
                         sees to it.",
                        server.url
                    ));
                }
                if account.held_since.is_some() {
                    wrong.push(format!(
                        "What the backup gave was found to differ from the node's own database. A snapshot of the node's \
                         database has taken its place or does so at the next start; what was there before is kept on {}. Please \
                         report this; then let it go with: backstop accept",
                        server.url
                    ));
                }
                if let Some(since) = account.restored_since {
                    wrong.push(format!(
                        "{} says since {} that its data were restored from a copy of an earlier time, and takes nothing for \
                         this node until you looked at it: stop lightningd, then type backstop adopt (with \
                         --server-lost-records where that tells you to).",
                        server.url,
                        Utc(since)
                    ));
                }
                wrong.extend(room::wrong_with_room(&server.url, &account));
                found.account = Some(account);
            }
            Err(error) => {
                wrong.push(format!(
                    "{error}. Where too few servers answer, the node waits before each commit, then halts."
                ));
                found.error = Some(error.to_string());
            }
        }
        (found, wrong)
    }
}
