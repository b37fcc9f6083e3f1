//! Transaction retries: how often, after what pause, and how many there have been.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cumulet_domain::faults;

use super::{commit, wire::Pool};

/// How often a transaction is run at the most.
pub(super) const ATTEMPTS: u32 = 6;

/// The pause before the first repetition, at the most; each further one may be twice as long.
const PAUSE: Duration = Duration::from_millis(10);

/// Commits between two sweeps of their markers.
const SWEEP: u64 = 2048;

/// What has happened to transactions since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Times that a transaction was run again, after a deadlock, a serialisation failure, or the loss of its
    /// connection.
    pub retried: u64,
    /// Transactions that were given up after the last try.
    pub gave_up: u64,
    /// Commits whose connection was lost and that were found to have been done.
    pub resolved: u64,
    /// Commits of which nobody could say whether they were done.
    pub unknown: u64,
}

/// Whether this transaction is one of those that a test wants to be given up.
pub(super) fn conflict_planned() -> bool {
    let of_a_hundred = faults::asked().faults.conflicts;
    of_a_hundred > 0 && rand::random_range(0..100) < of_a_hundred
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    retried: AtomicU64,
    gave_up: AtomicU64,
    resolved: AtomicU64,
    unknown: AtomicU64,
    commits: AtomicU64,
    unique: AtomicU64,
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

impl Tally {
    pub(super) fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            retried: read(&self.retried),
            gave_up: read(&self.gave_up),
            resolved: read(&self.resolved),
            unknown: read(&self.unknown),
        }
    }

    pub(super) fn unique(&self) -> u64 {
        count(&self.unique)
    }

    pub(super) fn again(&self) {
        count(&self.retried);
    }

    pub(super) fn gave_up(&self) {
        count(&self.gave_up);
    }

    pub(super) fn resolved(&self) {
        count(&self.resolved);
    }

    pub(super) fn unknown(&self) {
        count(&self.unknown);
    }

    /// Counts a commit; now and then the markers of old ones are deleted.
    pub(super) fn committed(&self, pool: &Pool) {
        if count(&self.commits).is_multiple_of(SWEEP) {
            let pool = pool.clone();
            tokio::spawn(async move { commit::sweep(&pool).await });
        }
    }

    /// Waits before a transaction is run again, not as long as the others do that it has collided with.
    pub(super) async fn pause(&self, attempt: u32) {
        let longest = PAUSE * 2_u32.pow(attempt.min(6) - 1);
        tokio::time::sleep(longest.mul_f64(rand::random::<f64>())).await;
    }
}
