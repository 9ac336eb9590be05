//! Calls that wait for a node's next record (SPEC 7.2).
//!
//! A record that this process takes wakes those who wait here at once. One that another process over the same database
//! took is found by looking again: a message from process to process would cost every append, and would not pass every
//! pooler.

use crate::store::AccountId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// How often somebody who waits looks again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who waits for whose records.
#[derive(Default)]
pub(crate) struct Arrivals(Mutex<HashMap<AccountId, Arc<Notify>>>);

/// Somebody who waits; no more once it is dropped.
pub(super) struct Waiter<'a> {
    arrivals: &'a Arrivals,
    account: AccountId,
    notify: Arc<Notify>,
}

impl Arrivals {
    /// A record of this account is durable.
    pub(super) fn came(&self, account: AccountId) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waiting.get(&account) {
            notify.notify_waiters();
        }
    }

    /// From now on `account`'s records are waited for.
    pub(super) fn wait_for(&self, account: AccountId) -> Waiter<'_> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Waiter {
            arrivals: self,
            account,
            notify: waiting.entry(account).or_default().clone(),
        }
    }
}

impl Waiter<'_> {
    /// To be enabled before the store is asked: what comes after that is not missed.
    pub(super) fn arrival(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.arrivals.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own and this one: nobody else waits, and under the lock nobody begins to.
        if Arc::strong_count(&self.notify) == 2 {
            waiting.remove(&self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_arrival_wakes_all_who_wait_for_that_account_and_nobody_else() {
        let arrivals = Arrivals::default();
        let (one, two, other) = (
            arrivals.wait_for(AccountId(1)),
            arrivals.wait_for(AccountId(1)),
            arrivals.wait_for(AccountId(2)),
        );
        let mut waiting: Vec<_> = [&one, &two, &other]
            .map(|waiter| Box::pin(waiter.arrival()))
            .into();
        for arrival in &mut waiting {
            assert!(!arrival.as_mut().enable());
        }
        arrivals.came(AccountId(1));
        let woken: Vec<_> = waiting
            .iter_mut()
            .map(|arrival| arrival.as_mut().enable())
            .collect();
        assert_eq!(woken, [true, true, false]);
    }

    #[test]
    fn who_waits_no_more_is_forgotten() {
        let arrivals = Arrivals::default();
        let (one, two) = (arrivals.wait_for(AccountId(1)), arrivals.wait_for(AccountId(1)));
        drop(one);
        assert_eq!(arrivals.0.lock().unwrap().len(), 1);
        drop(two);
        assert!(arrivals.0.lock().unwrap().is_empty());
        arrivals.came(AccountId(1));
    }
}
