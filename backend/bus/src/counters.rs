//! Counters of a bus, for the metrics listener.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a bus has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were to be handed over.
    pub sent: u64,
    /// Of those, the ones that the bus has taken.
    pub confirmed: u64,
    /// Of those, the ones that had nowhere to go.
    pub returned: u64,
    /// Messages that were handed out again.
    pub redelivered: u64,
    /// Messages that nobody could take: each is looked at by the operator.
    pub dead: u64,
    /// Messages that were refused: unreadable, of a version that is not understood, or of a sender that
    /// may not say so. They are among the dead once the bus has put them there.
    pub refused: u64,
    /// Times that the connection was made again.
    pub reconnects: u64,
    /// Times that the broker asked to wait (its memory or its disk is short).
    pub blocked: u64,
    /// The broker asks to wait now.
    pub is_blocked: bool,
}

/// The counting half.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pub(crate) returned: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) dead: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) blocked: AtomicU64,
    pub(crate) is_blocked: AtomicBool,
}

impl Tally {
    pub(crate) fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            sent: get(&self.sent),
            confirmed: get(&self.confirmed),
            returned: get(&self.returned),
            redelivered: get(&self.redelivered),
            dead: get(&self.dead),
            refused: get(&self.refused),
            reconnects: get(&self.reconnects),
            blocked: get(&self.blocked),
            is_blocked: self.is_blocked.load(Ordering::Relaxed),
        }
    }
}
