//! What was seen lately, in bounded room.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

/// A set in two halves: the older one goes when the younger one is full, so that of all that was added the latest `MAX` are
/// there, and never more than twice as many.
pub(crate) struct Recent<K, const MAX: usize>(Mutex<[HashSet<K>; 2]>);

impl<K, const MAX: usize> Default for Recent<K, MAX> {
    fn default() -> Self {
        Self(Mutex::new([HashSet::new(), HashSet::new()]))
    }
}

impl<K: Eq + Hash, const MAX: usize> Recent<K, MAX> {
    /// Adds one; `false` where it is there already.
    pub(crate) fn add(&self, key: K) -> bool {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *halves;
        if young.contains(&key) {
            return false;
        }
        if young.len() >= MAX {
            *old = std::mem::take(young);
        }
        let new = !old.contains(&key);
        young.insert(key);
        new
    }

    pub(crate) fn holds(&self, key: &K) -> bool {
        let halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.iter().any(|half| half.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_are_added_the_set_stays_bounded_and_holds_the_latest() {
        let recent: Recent<usize, 100> = Recent::default();
        for key in 0..350 {
            assert!(recent.add(key));
            assert!(!recent.add(key));
        }
        assert!((250..350).all(|key| recent.holds(&key)));
        assert!((0..150).all(|key| !recent.holds(&key)));
        let halves = recent.0.lock().unwrap();
        assert!(halves.iter().all(|half| half.len() <= 100));
    }
}
