//! What the hook, the lanes and the roll-ups tell each other about where each server stands. Nobody holds the lock over a wait.

use crate::remote::RemoteError;
use backstop_protocol::{api::AccountState, head::Head};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// One server, as this run knows it.
pub(super) struct Standing<S> {
    pub(super) url: String,
    /// The writer's session; `None` where it has not let this run in yet.
    pub(super) session: Option<Arc<S>>,
    /// Its head; `None` where it is not known.
    pub(super) head: Option<Head>,
    /// Whether what it holds restores by itself: only then it counts (I2).
    pub(super) whole: bool,
    /// Whether it may have become whole: a snapshot was made since its lane looked.
    pub(super) look_again: bool,
    /// Whether it asks for a roll-up.
    pub(super) roll_up: bool,
    /// Why it is behind.
    pub(super) trouble: Option<Trouble>,
}

/// Why a server is behind.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// For a person.
    pub(super) reason: RemoteError,
    /// Whether it may pass by itself.
    pub(super) passing: bool,
}

pub(super) struct Board<S> {
    inner: Mutex<Inner<S>>,
    changed: watch::Sender<()>,
}

struct Inner<S> {
    servers: Vec<Standing<S>>,
    /// The last record that enough servers held.
    acknowledged: Head,
    fenced: Option<RemoteError>,
}

impl<S> Board<S> {
    pub(super) fn new(servers: Vec<Standing<S>>, acknowledged: Head) -> Self {
        Self {
            inner: Mutex::new(Inner {
                servers,
                acknowledged,
                fenced: None,
            }),
            changed: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of every change from now on.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Reads what is known of one server.
    pub(super) fn of<T>(&self, at: usize, look: impl FnOnce(&Standing<S>) -> T) -> Option<T> {
        self.lock().servers.get(at).map(look)
    }

    /// Changes what is known of one server, and wakes whoever waits.
    pub(super) fn change(&self, at: usize, change: impl FnOnce(&mut Standing<S>)) {
        self.lock().servers.get_mut(at).map(change);
        self.changed.send_replace(());
    }

    /// What each server is asked, in order.
    pub(super) fn each<T>(&self, look: impl FnMut(&Standing<S>) -> T) -> Vec<T> {
        self.lock().servers.iter().map(look).collect()
    }

    /// How many servers hold everything up to `head`, so that each of them restores by itself.
    pub(super) fn holding(&self, head: Head) -> usize {
        let servers = &self.lock().servers;
        servers
            .iter()
            .filter(|server| server.whole && server.has(head))
            .count()
    }

    /// The last record that enough servers held.
    pub(super) fn acknowledged(&self) -> Head {
        self.lock().acknowledged
    }

    pub(super) fn acknowledge(&self, head: Head) {
        self.lock().acknowledged = head;
    }

    /// Another run is the writer at one of the servers: nothing is acknowledged any more.
    pub(super) fn fence(&self, refusal: RemoteError) {
        self.lock().fenced.get_or_insert(refusal);
        self.changed.send_replace(());
    }

    pub(super) fn fenced(&self) -> Option<RemoteError> {
        self.lock().fenced.clone()
    }

    /// The server at the greatest head, other than `at`, which lacks something that it has.
    pub(super) fn ahead_of(&self, at: usize, head: Head) -> Option<(Arc<S>, Head, String)> {
        let inner = self.lock();
        let others = inner.servers.iter().enumerate().filter(|(other, _)| *other != at);
        let known = others
            .filter_map(|(_, server)| Some((server.session.clone()?, server.head?, server.url.clone())));
        let ahead = known.filter(|(_, theirs, _)| theirs.cmp_place(&head).is_gt());
        ahead.max_by(|(_, one, _), (_, other, _)| one.cmp_place(other))
    }
}

impl<S> Standing<S> {
    /// A server that let the writer in, with an account as it stood then.
    pub(super) fn open(url: &str, session: Arc<S>, account: &AccountState, whole: bool) -> Self {
        Self {
            url: url.to_owned(),
            session: Some(session),
            head: Some(account.head),
            whole,
            look_again: false,
            roll_up: account.roll_up,
            trouble: None,
        }
    }

    /// A server that did not.
    pub(super) fn left(url: &str, reason: &RemoteError) -> Self {
        Self {
            url: url.to_owned(),
            session: None,
            head: None,
            whole: false,
            look_again: false,
            roll_up: false,
            trouble: Some(Trouble {
                passing: reason.is_passing(),
                reason: reason.clone(),
            }),
        }
    }

    fn has(&self, head: Head) -> bool {
        self.head.is_some_and(|mine| mine.cmp_place(&head).is_ge())
    }
}
