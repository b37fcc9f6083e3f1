//! The random source that is handed in: the system's in production, a seeded one under test.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rand::{Rng as _, SeedableRng, rngs::StdRng};

use crate::id::{Id, Resource};

/// One generator for all who share it. Cheap to clone.
#[derive(Clone)]
pub struct SharedRng(Arc<Shared>);

struct Shared {
    rng: Mutex<StdRng>,
    serial: AtomicU64,
}

impl SharedRng {
    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self::of(StdRng::seed_from_u64(seed))
    }

    /// Seeded by the operating system.
    pub fn system() -> Self {
        Self::of(StdRng::from_rng(&mut rand::rng()))
    }

    fn of(mut rng: StdRng) -> Self {
        let serial = AtomicU64::new(rng.next_u64());
        let rng = Mutex::new(rng);
        SharedRng(Arc::new(Shared { rng, serial }))
    }

    /// Draws with `draw`, which should be short: others wait.
    pub fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number that goes up by one each time, from a random one on.
    #[inline]
    pub fn serial(&self) -> u64 {
        self.0.serial.fetch_add(1, Ordering::Relaxed)
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
