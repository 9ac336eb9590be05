//! What goes on beside the requests: history whose time is over goes, then chunks that nothing needs, then packs that
//! hold little or nothing any more.
//!
//! Everything is done in small steps, each one transaction or one pack, so that appends pass between any two of them.
//! What a step finds is in the database, never in memory alone: a server that dies anywhere leaves its leftovers where
//! the next round finds them. What may go when is the store's to judge, by the server's clock (I8).

mod alarms;
mod plan;
mod rewrite;
#[cfg(test)]
mod tests;

pub(crate) use alarms::Alarms;

use crate::{
    packs::{PackError, PackStore},
    rest,
    store::{AccountId, HistoryPolicy, Leaving, Store, StoreError},
};
use backstop_protocol::{
    clock::{Clock, UnixMillis},
    id::PackId,
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Accounts that may wait to be looked at; more are found by the next round.
const WAITING: usize = 256;
/// How many accounts are listed at once.
const PAGE: usize = 256;
/// How often an account's chunks are searched through where nothing is known to have gone, milliseconds.
const SEARCH_MS: u64 = 6 * 60 * 60 * 1000;

/// Why a step did not succeed. Nothing is lost by that: the next round tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HousekeepingError {
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    #[error("the packs: {0}")]
    Packs(#[from] PackError),
    #[error("the pack {0} is damaged or gone: {1}; it is left as it is")]
    Damaged(PackId, String),
}

/// Where requests say that an account has something to tidy.
#[derive(Clone, Debug)]
pub(crate) struct Housekeeping(mpsc::Sender<AccountId>);

impl Housekeeping {
    /// The bell, and where it rings.
    pub(crate) fn new() -> (Self, mpsc::Receiver<AccountId>) {
        let (bell, wake) = mpsc::channel(WAITING);
        (Self(bell), wake)
    }

    /// Asks for a look at an account soon.
    pub(crate) fn look_at(&self, account: AccountId) {
        // Where too many wait already, the next round over all accounts comes by.
        let _ = self.0.try_send(account);
    }
}

/// Keeps house for every account of a store.
pub(crate) struct Housekeeper {
    store: Arc<dyn Store>,
    packs: Arc<dyn PackStore>,
    clock: Arc<dyn Clock>,
    policy: HistoryPolicy,
    pause: Duration,
    wake: mpsc::Receiver<AccountId>,
    /// When each account's chunks were last searched through without an end left over.
    searched: HashMap<AccountId, UnixMillis>,
    /// What went wrong last, by account: said once, until it succeeds or is something else.
    complaints: HashMap<AccountId, String>,
    alarms: Alarms,
}

impl Housekeeper {
    /// `pause` is the rest between two rounds.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        packs: Arc<dyn PackStore>,
        clock: Arc<dyn Clock>,
        policy: HistoryPolicy,
        pause: Duration,
        wake: mpsc::Receiver<AccountId>,
        alarms: Alarms,
    ) -> Self {
        Self {
            store,
            packs,
            clock,
            policy,
            pause,
            wake,
            searched: HashMap::new(),
            complaints: HashMap::new(),
            alarms,
        }
    }

    /// Works until the server stops.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let seen = stopped.clone();
        while !*seen.borrow() {
            self.round(&seen).await;
            let rest = tokio::time::sleep(self.pause);
            tokio::pin!(rest);
            loop {
                tokio::select! {
                    // An error means that the server is gone.
                    () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => return,
                    () = &mut rest => break,
                    Some(account) = self.wake.recv() => self.look_after(account, &seen).await,
                }
            }
        }
    }

    /// Once over all accounts.
    async fn round(&mut self, stopped: &watch::Receiver<bool>) {
        let mut after = AccountId(i64::MIN);
        self.alarms.begin();
        loop {
            let page = match self.store.accounts(after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    self.complain(AccountId(i64::MIN), &error.into());
                    return;
                }
            };
            let Some(last) = page.last() else {
                break;
            };
            after = *last;
            for account in page {
                let began = Instant::now();
                self.look_after(account, stopped).await;
                if *stopped.borrow() {
                    return;
                }
                rest::after(began).await;
                // Whoever is waited for does not wait for the whole round.
                while let Ok(account) = self.wake.try_recv() {
                    self.look_after(account, stopped).await;
                }
            }
        }
        self.complaints.remove(&AccountId(i64::MIN));
        self.alarms.end();
    }

    async fn look_after(&mut self, account: AccountId, stopped: &watch::Receiver<bool>) {
        match self.tidy(account, &|| *stopped.borrow()).await {
            Ok(()) => drop(self.complaints.remove(&account)),
            Err(error) => self.complain(account, &error),
        }
    }

    fn complain(&mut self, account: AccountId, error: &HousekeepingError) {
        let text = error.to_string();
        if self.complaints.get(&account) != Some(&text) {
            tracing::error!(
                account = account.0,
                error = text,
                "housekeeping: tried again later"
            );
            self.complaints.insert(account, text);
        }
    }

    /// Does all that there is to do for an account, step by step; ends early where `enough` says so.
    async fn tidy(
        &mut self,
        account: AccountId,
        enough: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), HousekeepingError> {
        let now = self.clock.now();
        if self.leave(account, now, enough).await? {
            return Ok(());
        }
        let watched = self.store.watch(account, now).await?;
        self.alarms.hear(&watched, now);
        let policy = self.store.history_policy(account, &self.policy).await?;
        for pack in self.store.begin_removals(account, now).await? {
            if enough() {
                return Ok(());
            }
            self.remove(account, pack).await?;
        }
        while !enough() && self.store.drop_history(account, &policy, now).await? {
            // What it needed may be needed no more. Due until the search has come to its end.
            self.searched.remove(&account);
            breathe().await;
        }
        let before = UnixMillis(now.0.saturating_sub(policy.keep_ms()));
        self.store.drop_old_files(account, before).await?;
        let searched = self.searched.get(&account);
        if searched.is_some_and(|then| *then <= now && now.millis_since(*then) < SEARCH_MS) {
            return Ok(());
        }
        while !enough() && self.store.drop_chunks(account, now).await? {
            breathe().await;
        }
        let mut damaged = Ok(());
        for group in plan::rewrites(self.store.pack_loads(account, now).await?) {
            if enough() {
                return Ok(());
            }
            match rewrite::merge(&*self.store, &*self.packs, account, &group, now).await {
                Ok(()) => {}
                // What else there is to do is not put off for it, by no means for months.
                Err(error @ HousekeepingError::Damaged(..)) => damaged = Err(error),
                // A pack of this very name is going. It comes again when that is done.
                Err(HousekeepingError::Store(StoreError::Unavailable(why))) => {
                    tracing::debug!(why, "a pack is rewritten later");
                }
                Err(error) => return Err(error),
            }
            breathe().await;
        }
        if !enough() {
            self.searched.insert(account, now);
        }
        damaged
    }

    /// Removes an account whose removal is due, and says whether it is one. Its packs go as all packs do.
    async fn leave(
        &mut self,
        account: AccountId,
        now: UnixMillis,
        enough: &(dyn Fn() -> bool + Sync),
    ) -> Result<bool, HousekeepingError> {
        while !enough() {
            match self.store.remove_some(account, now).await? {
                Leaving::No => return Ok(false),
                Leaving::Going => {}
                Leaving::Packs => {
                    for pack in self.store.begin_removals(account, now).await? {
                        self.remove(account, pack).await?;
                    }
                }
                Leaving::Gone { node, network } => {
                    self.searched.remove(&account);
                    self.alarms.gone(node, network, now);
                    break;
                }
            }
            breathe().await;
        }
        Ok(true)
    }

    /// Marked in the database first, then the file, then the row: whoever stores a pack of this name meanwhile is told
    /// to wait, and a server that dies in between finds the mark. Of several servers one has it at a time: a file that was
    /// stored again after the row's end is nobody's to remove.
    async fn remove(&self, account: AccountId, pack: PackId) -> Result<(), HousekeepingError> {
        let Some(removal) = self.store.hold_removal(account, pack).await? else {
            return Ok(());
        };
        self.packs.remove(account, pack).await?;
        Ok(removal.end().await?)
    }
}

/// Lets others go first.
async fn breathe() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
