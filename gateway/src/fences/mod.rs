//! Limits of each account and each access key: requests in flight, and a rate. What a tenant asks for beyond
//! them is refused before any work, so that it costs that tenant alone. `service::Caller` asks for admission;
//! who asks is known by then, so strangers can use up nobody's share.
//!
//! Requests have weights (`models/actions.toml`). A rehearsal (DryRun) costs what the call does.

mod bucket;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use cumulet_domain::{
    account::{AccountId, Principal},
    time::Timestamp,
};
use tokio::sync::Semaphore;

use bucket::Bucket;
pub use bucket::Rate;

use crate::fault::Fault;

/// Parts of the table of accounts, each with a lock of its own.
const SHARDS: usize = 16;

/// Accounts in a part from which on those that are at rest are forgotten, and keys in an account.
const MANY: usize = 1024;

/// What an account, or a key, may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Weight of the requests that are being answered; 0: no limit.
    pub in_flight: u32,
    /// Weight of requests over time.
    pub rate: Rate,
}

impl Share {
    /// Without an end.
    pub const UNLIMITED: Share = Share {
        in_flight: 0,
        rate: Rate::UNLIMITED,
    };
}

/// The limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Of an account, with all of its keys.
    pub account: Share,
    /// Of one access key.
    pub key: Share,
}

impl RequestLimits {
    /// Without an end: for benchmarks of everything else.
    pub const UNLIMITED: RequestLimits = RequestLimits {
        account: Share::UNLIMITED,
        key: Share::UNLIMITED,
    };
}

impl Default for RequestLimits {
    fn default() -> Self {
        let share = |in_flight, per_second, burst| Share {
            in_flight,
            rate: Rate { per_second, burst },
        };
        RequestLimits {
            account: share(2_000, 4_000, 40_000),
            key: share(1_000, 2_000, 20_000),
        }
    }
}

/// All accounts that have asked lately. Bounded by what there is in the database: only those whose signature
/// was verified get here.
#[derive(Debug)]
pub(crate) struct Fences {
    limits: RequestLimits,
    shards: [Mutex<HashMap<AccountId, Arc<Account>>>; SHARDS],
}

#[derive(Debug)]
struct Account {
    gauge: Gauge,
    keys: Mutex<HashMap<String, Arc<Gauge>>>,
    /// Whose turn it is among the account's requests that take long.
    turn: Arc<Semaphore>,
}

impl Default for Account {
    fn default() -> Self {
        Account {
            gauge: Gauge::default(),
            keys: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

/// What is used of a share.
#[derive(Debug, Default)]
struct Gauge {
    in_flight: AtomicU32,
    bucket: Bucket,
}

impl Gauge {
    fn admit(&self, weight: u32, cost: u32, share: Share, now: Timestamp) -> bool {
        let before = self.in_flight.fetch_add(weight, Ordering::AcqRel);
        // What weighs more than there may be goes alone.
        let fits = share.in_flight == 0 || before == 0 || before.saturating_add(weight) <= share.in_flight;
        if fits && self.bucket.take(cost, share.rate, now) {
            return true;
        }
        self.leave(weight);
        false
    }

    fn leave(&self, weight: u32) {
        self.in_flight.fetch_sub(weight, Ordering::AcqRel);
    }

    fn is_at_rest(&self, now: Timestamp) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0 && self.bucket.is_full(now)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fences {
    pub(crate) fn new(limits: RequestLimits) -> Self {
        Fences {
            limits,
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn account(&self, id: AccountId, now: Timestamp) -> Arc<Account> {
        let shard = id.to_db().cast_unsigned() % SHARDS as u64;
        // Below the number of parts, so it is a usize.
        let mut accounts = lock(&self.shards[shard as usize]);
        if let Some(known) = accounts.get(&id) {
            return known.clone();
        }
        if accounts.len() >= MANY {
            // One whose handle somebody has is about to use it.
            accounts.retain(|_, account| Arc::strong_count(account) > 1 || !account.gauge.is_at_rest(now));
        }
        accounts.entry(id).or_default().clone()
    }

    /// A request's admission, of this weight while it is answered and with these costs.
    ///
    /// # Errors
    /// `Throttled`.
    pub(crate) fn admit(
        &self,
        who: &Principal,
        weight: u32,
        cost: u32,
        now: Timestamp,
    ) -> Result<Admission, Fault> {
        let account = self.account(who.account, now);
        let key = account.key(&who.access_key_id, now);
        if !key.admit(weight, cost, self.limits.key, now) {
            return Err(Fault::Throttled);
        }
        if !account.gauge.admit(weight, cost, self.limits.account, now) {
            key.leave(weight);
            key.bucket.give_back(cost, self.limits.key.rate, now);
            return Err(Fault::Throttled);
        }
        Ok(Admission {
            account,
            key,
            weight,
            limits: self.limits,
        })
    }
}

impl Account {
    fn key(&self, id: &str, now: Timestamp) -> Arc<Gauge> {
        let mut keys = lock(&self.keys);
        if let Some(known) = keys.get(id) {
            return known.clone();
        }
        if keys.len() >= MANY {
            keys.retain(|_, key| Arc::strong_count(key) > 1 || !key.is_at_rest(now));
        }
        keys.entry(id.to_owned()).or_default().clone()
    }
}

/// A request that is being answered: in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    account: Arc<Account>,
    key: Arc<Gauge>,
    weight: u32,
    limits: RequestLimits,
}

impl Admission {
    /// What is used up by the request's work, beside what it was admitted with.
    pub(crate) fn meter(&self) -> Meter {
        Meter {
            account: self.account.clone(),
            key: self.key.clone(),
            limits: self.limits,
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.key.leave(self.weight);
        self.account.gauge.leave(self.weight);
    }
}

/// See [`Admission::meter`].
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    account: Arc<Account>,
    key: Arc<Gauge>,
    limits: RequestLimits,
}

impl Meter {
    /// Nobody's: nothing is limited.
    #[cfg(test)]
    pub(crate) fn unlimited() -> Self {
        Meter {
            account: Arc::default(),
            key: Arc::default(),
            limits: RequestLimits::UNLIMITED,
        }
    }

    /// Adds what was used to what the account and the key have to wait for.
    pub(crate) fn charge(&self, units: u32, now: Timestamp) {
        self.key.bucket.charge(units, self.limits.key.rate, now);
        self.account
            .gauge
            .bucket
            .charge(units, self.limits.account.rate, now);
    }

    /// The turn of the account among those of its requests that take long: one at a time, so that however
    /// many there are, others' requests wait for one piece of work of theirs.
    pub(crate) fn turn(&self) -> Arc<Semaphore> {
        self.account.turn.clone()
    }
}

#[cfg(test)]
mod tests;
