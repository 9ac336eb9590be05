//! How often somebody may ask. Appends of an open writer session are not asked about here: nothing limits them (I13).
//!
//! Each limit is a burst that fills up again at a rate, kept as one time for each key (the "generic cell rate algorithm"). The keys
//! are bounded: the table has two halves, and what was not asked about while the younger one filled up is forgotten,
//! which gives it its whole burst again and no more. What all of the unknown may do together is a limit of its own.

use crate::{
    store::{AccountId, Writer},
    transport::Cidr,
};
use backstop_protocol::{
    clock::UnixMillis,
    id::{AccessKey, RunId},
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Keys in each half of the table.
const KEYS_MAX: usize = 16_384;
/// How many seconds of its rate anybody may use at once.
const BURST_SECONDS: u64 = 10;
/// The same, in microseconds.
const BURST: u64 = BURST_SECONDS * 1_000_000;
/// How often one access key opens sessions from one place; a plugin does so about every nine minutes.
const OPENINGS: u32 = 2;
/// How often a run that is no writer any more may try to append all the same.
const FENCED: u32 = 5;
/// How often somebody may try to be the operator.
const OPERATOR: u32 = 5;

/// Requests a second, in the long run; for a moment ten times as many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Without a session, from one address.
    pub address: u32,
    /// Without a session, from all addresses together.
    pub everyone: u32,
    /// In all sessions of one account, but for appends.
    pub account: u32,
    /// Addresses behind which are many: Tor exits, the gateway of a hosting company. This machine itself always is one, since an
    /// onion service and a proxy call from there.
    pub shared: Vec<Cidr>,
}

impl Default for Rates {
    /// 50, 500 and 500.
    fn default() -> Self {
        Self {
            address: 50,
            everyone: 500,
            account: 500,
            shared: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Everyone,
    LookUps,
    Operator,
    Address(IpAddr),
    Opener(AccessKey, IpAddr),
    Account(AccountId),
    Fenced(AccountId, RunId),
}

/// For each key the time up to which its burst is used, microseconds.
#[derive(Default)]
struct Table {
    young: HashMap<Key, u64>,
    old: HashMap<Key, u64>,
}

/// Counts who asked how often.
pub(crate) struct Limiter {
    rates: Rates,
    table: Mutex<Table>,
}

impl Limiter {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            rates,
            table: Mutex::default(),
        }
    }

    /// A request without a session. The error is how long to wait.
    pub(crate) fn anonymous(&self, from: IpAddr, now: UnixMillis) -> Result<(), Duration> {
        let place = place(from);
        if !self.is_shared(place) {
            self.take(Key::Address(place), self.rates.address, now)?;
        }
        self.take(Key::Everyone, self.rates.everyone, now)
    }

    /// An opening whose signature fits. By place too, so that who sends another's opening again uses up his own share.
    pub(crate) fn opening(&self, key: AccessKey, from: IpAddr, now: UnixMillis) -> Result<(), Duration> {
        self.take(Key::Opener(key, place(from)), OPENINGS, now)
    }

    /// A look into the database for who opens, beyond what strangers may ask.
    pub(crate) fn look_up(&self, now: UnixMillis) -> Result<(), Duration> {
        self.take(Key::LookUps, self.rates.everyone, now)
    }

    /// A try to be the operator, from wherever: the word to be guessed is long.
    pub(crate) fn operator(&self, now: UnixMillis) -> Result<(), Duration> {
        self.take(Key::Operator, OPERATOR, now)
    }

    /// A call of a session that is no append.
    pub(crate) fn call(&self, account: AccountId, now: UnixMillis) -> Result<(), Duration> {
        self.take(Key::Account(account), self.rates.account, now)
    }

    /// An append of a run that was found to be no writer any more. The writer itself is never counted.
    pub(crate) fn fenced(&self, account: AccountId, writer: &Writer, now: UnixMillis) {
        // The answer concerns the next one.
        let _ = self.take(Key::Fenced(account, writer.run), FENCED, now);
    }

    /// Whether such a run has to wait.
    pub(crate) fn append(
        &self,
        account: AccountId,
        writer: &Writer,
        now: UnixMillis,
    ) -> Result<(), Duration> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let until = table.until(Key::Fenced(account, writer.run), now);
        judge(until, FENCED, now).map(drop)
    }

    fn is_shared(&self, place: IpAddr) -> bool {
        place.is_loopback() || self.rates.shared.iter().any(|range| range.contains(place))
    }

    fn take(&self, key: Key, rate: u32, now: UnixMillis) -> Result<(), Duration> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let until = table.until(key, now);
        let until = judge(until, rate, now)?;
        table.put(key, until);
        Ok(())
    }
}

impl Table {
    /// Up to when a key's burst is used. What lies further ahead than that was written before the clock was set back.
    fn until(&self, key: Key, now: UnixMillis) -> u64 {
        let known = self.young.get(&key).or_else(|| self.old.get(&key)).copied();
        let most = now.0.saturating_mul(1000).saturating_add(BURST);
        known.filter(|until| *until <= most).unwrap_or(0)
    }

    fn put(&mut self, key: Key, until: u64) {
        if self.young.len() >= KEYS_MAX && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, until);
    }
}

/// Up to when the burst is used after one more; else how long to wait.
fn judge(until: u64, rate: u32, now: UnixMillis) -> Result<u64, Duration> {
    let now = now.0.saturating_mul(1000);
    let each = 1_000_000 / u64::from(rate.max(1));
    let next = until.max(now).saturating_add(each);
    let over = next.saturating_sub(now).saturating_sub(BURST);
    if over == 0 {
        Ok(next)
    } else {
        Err(Duration::from_micros(over))
    }
}

/// What one party has: an IPv4 address, or a network of 64 bits of IPv6.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::id::InstanceId;
    use proptest::prelude::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn rates() -> Rates {
        Rates {
            address: 2,
            everyone: 100,
            account: 3,
            shared: vec!["192.0.2.0/24".parse().unwrap()],
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many pass at once.
    fn burst(ask: impl Fn() -> Result<(), Duration>) -> usize {
        (0..10_000).take_while(|_| ask().is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_its_rate_alone() {
        let limiter = Limiter::new(rates());
        let from = address("198.51.100.7");
        assert_eq!(burst(|| limiter.anonymous(from, NOW)), 20);
        let wait = limiter.anonymous(from, NOW).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        let later = UnixMillis(NOW.0 + 1000);
        assert_eq!(burst(|| limiter.anonymous(from, later)), 2);
        // Another address has its own.
        assert_eq!(burst(|| limiter.anonymous(address("198.51.100.8"), NOW)), 20);
    }

    #[test]
    fn addresses_with_many_behind_them_share_the_limit_of_all_and_no_other() {
        for shared in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.9"] {
            let limiter = Limiter::new(rates());
            assert_eq!(
                burst(|| limiter.anonymous(address(shared), NOW)),
                1000,
                "{shared}"
            );
            assert!(limiter.anonymous(address("198.51.100.7"), NOW).is_err());
        }
    }

    #[test]
    fn one_network_of_ipv6_is_one_party() {
        let limiter = Limiter::new(rates());
        assert_eq!(burst(|| limiter.anonymous(address("2001:db8::1"), NOW)), 20);
        assert!(limiter.anonymous(address("2001:db8::ffff:2"), NOW).is_err());
        assert!(limiter.anonymous(address("2001:db8:0:1::1"), NOW).is_ok());
    }

    #[test]
    fn who_sends_anothers_opening_again_uses_up_no_share_but_his_own() {
        let limiter = Limiter::new(rates());
        let key = AccessKey([7; 32]);
        let (thief, owner) = (address("198.51.100.7"), address("198.51.100.8"));
        assert_eq!(burst(|| limiter.opening(key, thief, NOW)), 20);
        assert!(limiter.opening(key, owner, NOW).is_ok());
    }

    #[test]
    fn only_a_run_that_was_found_fenced_waits_with_its_appends() {
        let limiter = Limiter::new(rates());
        let writer = |run| Writer {
            instance: InstanceId([1; 16]),
            run: RunId([run; 16]),
            epoch: 1,
        };
        let account = AccountId(1);
        while limiter.append(account, &writer(1), NOW).is_ok() {
            limiter.fenced(account, &writer(1), NOW);
        }
        assert!(limiter.append(account, &writer(2), NOW).is_ok());
        assert!(
            limiter
                .append(account, &writer(1), UnixMillis(NOW.0 + 1000))
                .is_ok()
        );
        while limiter.call(account, NOW).is_ok() {}
        assert!(limiter.append(account, &writer(2), NOW).is_ok());
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nobody_up() {
        let limiter = Limiter::new(rates());
        let from = address("198.51.100.7");
        while limiter.anonymous(from, NOW).is_ok() {}
        let before = UnixMillis(NOW.0 - 500_000);
        assert_eq!(burst(|| limiter.anonymous(from, before)), 20);
    }

    #[test]
    fn however_many_ask_the_table_stays_bounded() {
        let limiter = Limiter::new(Rates {
            everyone: u32::MAX,
            ..rates()
        });
        for address in 0..100_000_u32 {
            let from = IpAddr::V4((0x0100_0000 + address).into());
            limiter.anonymous(from, NOW).unwrap();
        }
        let table = limiter.table.lock().unwrap();
        assert!(table.young.len() + table.old.len() <= 2 * KEYS_MAX);
    }

    proptest! {
        /// Whoever asks whenever: never more than the burst and what the time between allows.
        #[test]
        fn nobody_gets_more_than_the_burst_and_the_rate(
            rate in 1_u32..50, steps in proptest::collection::vec(0_u64..500, 1..300),
        ) {
            let limiter = Limiter::new(Rates { account: rate, ..rates() });
            let (mut now, mut passed) = (NOW.0, 0_u64);
            for step in steps {
                now += step;
                passed += u64::from(limiter.call(AccountId(1), UnixMillis(now)).is_ok());
                let most = u64::from(rate) * (BURST_SECONDS * 1000 + (now - NOW.0)) / 1000 + 1;
                prop_assert!(passed <= most);
            }
        }
    }
}
