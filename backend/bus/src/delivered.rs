//! A delivered message with its receipt: it is delivered again unless the receipt is acknowledged. Mailboxes
//! hand these out; workers and conductors acknowledge them.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often a message may be handed out; after that it is a dead letter. With the pauses between, that
/// is a good eight minutes of a receiver that can't take it.
pub const DELIVERY_LIMIT: u32 = 20;

/// How long a message that was given back stays away, by how often it was handed out: what failed once
/// will hardly succeed at once.
pub(crate) fn pause(times: u32) -> Duration {
    Duration::from_secs(1 << times.saturating_sub(1).min(5)).min(Duration::from_secs(30))
}

/// Where messages go that were handed out.
pub(crate) trait Origin<T>: Send + Sync {
    /// It has had its effect.
    fn acked(&self, tag: u64);
    /// It has not: it shall come again, after a pause.
    fn back(&self, tag: u64, body: T, times: u32);
}

/// A message that was handed out. It reads as the message itself. Once its effect is kept somewhere it is
/// acknowledged; if it is dropped before that, it comes again, to this mailbox or to another. It may come
/// twice all the same.
pub struct Delivered<T: Clone> {
    body: T,
    tag: u64,
    times: u32,
    acked: AtomicBool,
    origin: Option<Arc<dyn Origin<T>>>,
}

impl<T: Clone> Delivered<T> {
    pub(crate) fn new(body: T, tag: u64, times: u32, origin: Arc<dyn Origin<T>>) -> Self {
        Delivered {
            body,
            tag,
            times,
            acked: AtomicBool::new(false),
            origin: Some(origin),
        }
    }

    /// A message that no bus brought, as tests need it: nobody hears of its receipt.
    pub fn loose(body: T) -> Self {
        Delivered {
            body,
            tag: 0,
            times: 1,
            acked: AtomicBool::new(true),
            origin: None,
        }
    }

    /// Its effect is kept: it need not come again. Said twice is said once.
    pub fn ack(&self) {
        if !self.acked.swap(true, Ordering::AcqRel)
            && let Some(origin) = &self.origin
        {
            origin.acked(self.tag);
        }
    }

    /// How often it has been handed out, this time included, as far as the bus knows.
    pub fn times(&self) -> u32 {
        self.times
    }

    /// Acknowledges and takes the message out.
    pub fn accept(self) -> T {
        self.ack();
        self.body.clone()
    }
}

impl<T: Clone> Deref for Delivered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.body
    }
}

impl<T: Clone + fmt::Debug> fmt::Debug for Delivered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivered")
            .field("body", &self.body)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl<T: Clone> Drop for Delivered<T> {
    fn drop(&mut self) {
        if !*self.acked.get_mut()
            && let Some(origin) = self.origin.take()
        {
            origin.back(self.tag, self.body.clone(), self.times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_give_a_broken_receiver_minutes() {
        assert_eq!(pause(0), Duration::from_secs(1));
        assert_eq!(pause(1), Duration::from_secs(1));
        assert_eq!(pause(3), Duration::from_secs(4));
        assert_eq!(pause(u32::MAX), Duration::from_secs(30));
        let all: Duration = (1..DELIVERY_LIMIT).map(pause).sum();
        assert!(all > Duration::from_secs(420), "{all:?}");
    }
}
