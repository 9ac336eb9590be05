//! What is the matter with an account, the worst first: in a few words for the operator, at length for the node's owner.

use super::page::typed;
use crate::{
    amounts::{Date, distance, size},
    store::{Account, RemovalBy, Terms},
};
use backstop_protocol::{clock::UnixMillis, quota::QuotaLevel};
use maud::{Markup, html};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    Bad,
    Warning,
    Good,
}

impl Grade {
    /// For the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warning => "warning",
            Self::Good => "good",
        }
    }

    /// In front of the words, so that it does not hang on colours.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Bad => "✕",
            Self::Warning => "!",
            Self::Good => "✓",
        }
    }
}

/// One thing that is the matter. The order is that of what to look at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Matter {
    /// The server's data are a copy of an earlier time, and the owner did not say yet how to go on.
    Restored(UnixMillis),
    /// The node found its backup to differ from its database.
    Held(UnixMillis),
    /// The next record may be refused.
    Full,
    /// No record for longer than is usual.
    Silent(UnixMillis),
    /// All of it goes, or is going.
    Leaving(UnixMillis),
    /// More than the quota is used.
    Overdraft,
    /// Most of the quota is used.
    Near,
    /// No record ever came.
    Empty,
}

impl Matter {
    /// All that is the matter, the worst first.
    pub(super) fn of(account: &Account, terms: &Terms, now: UnixMillis) -> Vec<Self> {
        let level = account.quota_state(terms).map(|quota| quota.level);
        let room = match level {
            Some(QuotaLevel::Exhausted) => Some(Self::Full),
            Some(QuotaLevel::Overdraft) => Some(Self::Overdraft),
            Some(QuotaLevel::Near) => Some(Self::Near),
            _ => None,
        };
        let found = [
            account.restored_since.map(Self::Restored),
            account.held_since.map(Self::Held),
            account.silent_since(terms, now).map(Self::Silent),
            account.removal_at().map(Self::Leaving),
            room,
            account.head.is_empty().then_some(Self::Empty),
        ];
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_unstable();
        found
    }

    pub(super) fn grade(self) -> Grade {
        match self {
            Self::Restored(_) | Self::Held(_) | Self::Full | Self::Silent(_) => Grade::Bad,
            Self::Leaving(_) | Self::Overdraft | Self::Near | Self::Empty => Grade::Warning,
        }
    }

    /// In a few words.
    pub(super) fn short(self, now: UnixMillis) -> String {
        match self {
            Self::Restored(_) => "held: the server was restored".to_owned(),
            Self::Held(_) => "held: a proof failed".to_owned(),
            Self::Full => "out of room".to_owned(),
            Self::Silent(since) => format!("silent for {}", distance(since, now)),
            Self::Leaving(at) if at > now => format!("leaves in {}", distance(at, now)),
            Self::Leaving(_) => "is being removed".to_owned(),
            Self::Overdraft => "over its quota".to_owned(),
            Self::Near => "near its quota".to_owned(),
            Self::Empty => "never wrote".to_owned(),
        }
    }

    /// What it is, for the node's owner.
    pub(super) fn title(self, now: UnixMillis) -> String {
        match self {
            Self::Restored(_) => "Nothing is taken from your node until you say how to go on".to_owned(),
            Self::Held(_) => "Your node found that this backup differs from its database".to_owned(),
            Self::Full => "There is no room left for your node".to_owned(),
            Self::Silent(since) => format!("Nothing has come from your node for {}", distance(since, now)),
            Self::Leaving(at) if at > now => {
                format!("This backup will be removed in {}", distance(at, now))
            }
            Self::Leaving(_) => "This backup is being removed".to_owned(),
            Self::Overdraft => "Your node uses more room than it has".to_owned(),
            Self::Near => "The room for your node is running out".to_owned(),
            Self::Empty => "No backup has come yet".to_owned(),
        }
    }

    /// What happened, what it means for the funds, and what to do next.
    pub(super) fn says(self, account: &Account) -> Markup {
        let network = account.network;
        let type_ = |command: &str| typed(&format!("backstop {command} --network {network}"));
        match self {
            Self::Restored(since) => html! {
                p { "On " (Date::of(since).minute()) " the operator put this server's data back from a copy of an earlier time. Your node halts rather than act on "
                    "what is not backed up. Its own database is the complete one: keep it." }
                p { "Type on the node's machine: " (type_("adopt")) }
            },
            Self::Held(since) => html! {
                p { "Since " (Date::of(since).minute()) " nothing of this backup is dropped. The node makes a new snapshot by itself, and that is what restores from then on." }
                p { "Report it, and once you have looked, type on the node's machine: " (type_("accept")) }
            },
            Self::Full => html! {
                p { "Its quota and the overdraft are used up. The next change may be refused; the node then waits, and halts. Nothing that is here is lost." }
                p { "Ask the operator of this server for more room." }
            },
            Self::Silent(_) => html! {
                p { "That is longer than is usual for it. If it is switched off, all is well. If it runs, what it does is not backed up here, and who restores "
                    "from this server would act on an old state, which can cost the funds of its channels." }
                p { "Look on the node's machine: " (type_("status")) }
            },
            Self::Leaving(at) => html! {
                @match account.removal.map(|removal| removal.by) {
                    Some(RemovalBy::Owner) => {
                        p { "Its removal was asked for with your node's key, and begins on " (Date::of(at).minute()) ". After that nothing can be restored from here." }
                        p { "To keep it, type on the node's machine: " (type_("delete-backup --undo")) }
                    }
                    _ => {
                        p { "The operator of this server asked for its removal, which begins on " (Date::of(at).minute()) ". After that nothing can be restored from here." }
                        p { "Ask the operator, or add another server before that: " (type_("server add URL")) }
                    }
                }
            },
            Self::Overdraft => html! {
                p { "Changes are still taken. Older history goes early, and once the overdraft is used up too the node waits, and halts." }
                p { "Ask the operator of this server for more room." }
            },
            Self::Near => html! {
                p { "Nothing is refused yet. Older history will go early to make room." }
                p { "Ask the operator of this server for more room." }
            },
            Self::Empty => html! {
                p { "This server has taken your node in, and nothing was written yet. The node is not backed up here until lightningd has started with the plugin." }
                p { "Look on the node's machine: " (type_("doctor")) }
            },
        }
    }
}

/// An account's use, and its quota where it has one.
pub(super) fn room(account: &Account, terms: &Terms) -> String {
    match account.quota_state(terms) {
        Some(quota) => format!("{} of {}", size(account.used()), size(quota.bytes)),
        None => size(account.used()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AccountId, QuotaPolicy, Removing};
    use backstop_protocol::id::{Network, NodeId};

    const DAY: u64 = 86_400_000;

    fn account() -> Account {
        let mut account = Account::new(AccountId(1), NodeId([2; 33]), Network::Regtest);
        account.head.seq = 1;
        account.head_received_at = Some(UnixMillis(DAY));
        account
    }

    fn of(account: &Account) -> Vec<Matter> {
        let quota = QuotaPolicy {
            bytes: Some(1000),
            ..QuotaPolicy::default()
        };
        let terms = Terms {
            quota,
            ..Terms::default()
        };
        Matter::of(account, &terms, UnixMillis(DAY + 1000))
    }

    #[test]
    fn each_thing_is_seen_and_the_worst_comes_first() {
        assert_eq!(of(&account()), []);
        assert_eq!(
            of(&Account::new(AccountId(1), NodeId([2; 33]), Network::Regtest)),
            [Matter::Empty]
        );
        for (used, want) in [
            (799, None),
            (800, Some(Matter::Near)),
            (1001, Some(Matter::Overdraft)),
            (1200, Some(Matter::Full)),
        ] {
            let account = Account {
                log_bytes: used,
                ..account()
            };
            assert_eq!(of(&account).first().copied(), want);
        }
        let at = UnixMillis(2 * DAY);
        let all = Account {
            log_bytes: 5000,
            head_received_at: Some(UnixMillis(1)),
            removal: Some(Removing {
                at,
                by: RemovalBy::Owner,
            }),
            held_since: Some(at),
            restored_since: Some(at),
            ..account()
        };
        let want = [
            Matter::Restored(at),
            Matter::Held(at),
            Matter::Full,
            Matter::Silent(UnixMillis(1)),
            Matter::Leaving(at),
        ];
        assert_eq!(of(&all), want);
    }

    #[test]
    fn each_thing_says_what_to_do_next() {
        let at = UnixMillis(2 * DAY);
        let all = [
            Matter::Restored(at),
            Matter::Held(at),
            Matter::Full,
            Matter::Silent(at),
            Matter::Leaving(at),
            Matter::Overdraft,
            Matter::Near,
            Matter::Empty,
        ];
        for matter in all {
            let text = matter.says(&account()).into_string();
            assert!(
                text.contains("<span>backstop</span>") || text.contains("Ask the operator"),
                "{text}"
            );
            assert!(!matter.title(at).is_empty() && !matter.short(at).is_empty());
        }
    }
}
