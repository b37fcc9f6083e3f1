//! The fault generator's randomness: one seeded generator, apart from that of the control plane, whose
//! numbers become ids.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng, rngs::StdRng};

/// One run's dice.
#[derive(Debug)]
pub(crate) struct Dice(Mutex<StdRng>);

impl Dice {
    /// The same throws for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        // Not the numbers of ids that are made from the same seed.
        Dice(Mutex::new(StdRng::seed_from_u64(seed ^ 0x5eed_d1ce_5eed_d1ce)))
    }

    fn with<T>(&self, throw: impl FnOnce(&mut StdRng) -> T) -> T {
        throw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True in this share of all throws.
    pub(crate) fn chance(&self, share: f64) -> bool {
        share > 0.0 && self.with(|rng| rng.random_bool(share.min(1.0)))
    }

    /// A number of the range.
    pub(crate) fn number(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return range.start;
        }
        self.with(|rng| rng.random_range(range))
    }

    /// An index below `len`, which is not 0.
    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.number(0..len as u64)).unwrap_or(0)
    }

    /// A time of the range, in milliseconds.
    pub(crate) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.index(from.len()))
    }
}
