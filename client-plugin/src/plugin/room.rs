//! What a server says about the node's room and about its removal, told in lightningd's log (I13).

use super::stdio::{self, Level};
use backstop_protocol::{
    api::Appended,
    clock::UnixMillis,
    quota::{Quota, QuotaLevel},
};
use std::time::Duration;
use tokio::time::Instant;

/// How often the same is said again.
const AGAIN: Duration = Duration::from_hours(6);

/// What was said last, and when.
#[derive(Default)]
pub(super) struct Room {
    quota: Option<(QuotaLevel, Instant)>,
    removal: Option<(UnixMillis, Instant)>,
}

impl Room {
    /// Hears an acknowledgement, and says what is new in it.
    pub(super) fn hear(&mut self, url: &str, appended: &Appended, now: Instant) {
        for (level, text) in self.news(url, appended, now) {
            stdio::log(level, &text);
        }
    }

    fn news(&mut self, url: &str, appended: &Appended, now: Instant) -> Vec<(Level, String)> {
        let mut news = Vec::new();
        match appended.quota {
            None => self.quota = None,
            Some(quota) => {
                let due = self
                    .quota
                    .is_none_or(|(level, at)| level != quota.level || now.duration_since(at) >= AGAIN);
                if due {
                    self.quota = Some((quota.level, now));
                    news.push(room(url, &quota));
                }
            }
        }
        match appended.removal_at {
            None => self.removal = None,
            Some(removal) => {
                let due = self
                    .removal
                    .is_none_or(|(said, at)| said != removal || now.duration_since(at) >= AGAIN);
                if due {
                    self.removal = Some((removal, now));
                    let text = format!(
                        "{url} is to remove everything of this node, because its operator or whoever has this node's key asked for \
                         that. Until then the backup goes on; after that this node halts. If that is wrong: backstop \
                         delete-backup --undo, or ask the server's operator."
                    );
                    news.push((Level::Error, text));
                }
            }
        }
        news
    }
}

fn room(url: &str, quota: &Quota) -> (Level, String) {
    let (level, what) = match quota.level {
        QuotaLevel::Near => (
            Level::Warn,
            "The backup goes on; what it keeps of the past becomes less",
        ),
        QuotaLevel::Overdraft => (
            Level::Error,
            "The backup goes on, in the overdraft; when that is used up too, this node waits before each commit and then \
             halts",
        ),
        _ => (
            Level::Error,
            "The next update may be refused, and then this node waits before it commits, and halts",
        ),
    };
    let text = format!(
        "The room at {url} runs out: {} of {} bytes are used, {} at most. {what}. Ask the server's operator for more room.",
        quota.used, quota.bytes, quota.most
    );
    (level, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::head::Head;

    fn appended(level: Option<QuotaLevel>, removal_at: Option<u64>) -> Appended {
        Appended {
            head: Head::EMPTY,
            roll_up: false,
            quota: level.map(|level| Quota {
                bytes: 10,
                used: 9,
                packs: 11,
                most: 12,
                level,
            }),
            removal_at: removal_at.map(UnixMillis),
        }
    }

    #[test]
    fn each_rung_is_said_once_and_again_after_a_while() {
        let (mut room, now) = (Room::default(), Instant::now());
        let mut said = |level, at| room.news("U", &appended(level, None), now + at).len();
        let (near, over) = (Some(QuotaLevel::Near), Some(QuotaLevel::Overdraft));
        assert_eq!(said(None, Duration::ZERO), 0);
        assert_eq!(said(near, Duration::ZERO), 1);
        assert_eq!(said(near, AGAIN.checked_sub(Duration::from_secs(1)).unwrap()), 0);
        assert_eq!(said(near, AGAIN), 1);
        assert_eq!(said(over, AGAIN), 1);
        assert_eq!(said(None, AGAIN), 0);
        assert_eq!(said(near, AGAIN), 1);
    }

    #[test]
    fn a_removal_is_said_loudly_with_what_takes_it_back() {
        let (mut room, now) = (Room::default(), Instant::now());
        let news = room.news("U", &appended(None, Some(5)), now);
        assert!(matches!(&news[..], [(Level::Error, text)] if text.contains("delete-backup --undo")));
        assert_eq!(room.news("U", &appended(None, Some(5)), now).len(), 0);
    }
}
