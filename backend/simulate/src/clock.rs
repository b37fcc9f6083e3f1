//! Virtual time: it advances to the next timer when no task has anything left to do. Wall clocks can be set
//! besides, and differ a little from host to host.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use cumulet_domain::time::{Clock, Timestamp};
use tokio::time::Instant;

/// When every run begins: 2026-01-02T03:04:05Z.
const BEGIN: i64 = 1_767_323_045_000;

/// The clock of one machine.
#[derive(Clone, Debug)]
pub(crate) struct VirtualClock {
    began: Instant,
    /// How far all clocks have been set.
    set: Arc<AtomicI64>,
    /// How far this one is from the others.
    skew: i64,
}

impl VirtualClock {
    /// The clock of the control plane. To be called within the run's runtime.
    pub(crate) fn start() -> Self {
        VirtualClock {
            began: Instant::now(),
            set: Arc::default(),
            skew: 0,
        }
    }

    /// A clock of another machine.
    pub(crate) fn skewed(&self, millis: i64) -> Self {
        VirtualClock {
            skew: millis,
            ..self.clone()
        }
    }

    /// Sets all clocks forward, or back.
    pub(crate) fn jump(&self, millis: i64) {
        self.set.fetch_add(millis, Ordering::Relaxed);
    }

    /// Milliseconds since the run's beginning, whatever clocks were set to.
    pub(crate) fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.elapsed()).unwrap_or(i64::MAX);
        Timestamp(BEGIN + elapsed + self.set.load(Ordering::Relaxed) + self.skew)
    }
}
