//! Randomness that is handed in: from the system in production, from a seed under test.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use cumulet_domain::id::{Id, Resource};
use rand::{SeedableRng, rngs::StdRng};

/// One generator for all who share it. Cheap to clone.
#[derive(Clone)]
pub struct SharedRng(Arc<Mutex<StdRng>>);

impl SharedRng {
    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        SharedRng(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Seeded by the operating system.
    pub fn system() -> Self {
        SharedRng(Arc::new(Mutex::new(StdRng::from_rng(&mut rand::rng()))))
    }

    /// Draws with `draw`, which should be short: others wait.
    pub fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new id.
    pub fn id<R: Resource>(&self) -> Id<R> {
        self.with(|rng| Id::random(rng))
    }
}

impl fmt::Debug for SharedRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedRng")
    }
}
