//! Counters of the commands that a worker did not carry out, or not again. Its main loop and the steps count.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was dropped or repeated since the start.
#[derive(Debug, Default)]
pub struct Counters {
    stale: AtomicU64,
    expired: AtomicU64,
    repeated: AtomicU64,
}

impl Counters {
    pub(crate) fn stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn repeated(&self) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// Commands dropped because a newer one had been seen, or because their deadline had passed, and
    /// commands that came again, while the first waited or after it had been carried out.
    pub fn read(&self) -> (u64, u64, u64) {
        (
            self.stale.load(Ordering::Relaxed),
            self.expired.load(Ordering::Relaxed),
            self.repeated.load(Ordering::Relaxed),
        )
    }
}
