//! A bounded queue in memory with redelivery: a message comes again unless it is acknowledged.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    counters::Tally,
    delivered::{DELIVERY_LIMIT, pause},
};

/// Why a message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full<T> {
    /// There is no room.
    Full(T),
    /// Nobody listens.
    Nobody,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    room: usize,
    arrived: Notify,
    taken: Notify,
    tally: Arc<Tally>,
}

#[derive(Debug)]
struct Inner<T> {
    /// With how often each has been handed out.
    waiting: VecDeque<(T, u32)>,
    /// What was given back, until when it stays away.
    away: Vec<(Instant, T, u32)>,
    /// Only readers with this number are served.
    number: u64,
    readers: usize,
}

/// What a look at the queue gave.
enum Look {
    Some,
    Closed,
    Nothing(Option<Instant>),
}

impl<T> Queue<T> {
    pub(super) fn new(room: usize, tally: Arc<Tally>) -> Self {
        let inner = Inner {
            waiting: VecDeque::new(),
            away: Vec::new(),
            number: 0,
            readers: 0,
        };
        Queue {
            inner: Mutex::new(inner),
            room,
            arrived: Notify::new(),
            taken: Notify::new(),
            tally,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader beside the others.
    pub(super) fn join(self: &Arc<Self>) -> Reader<T> {
        let mut inner = self.inner();
        inner.readers += 1;
        Reader {
            queue: self.clone(),
            number: inner.number,
        }
    }

    /// A reader instead of the others, which are told that it is over.
    pub(super) fn take_over(self: &Arc<Self>) -> Reader<T> {
        let mut inner = self.inner();
        (inner.number, inner.readers) = (inner.number + 1, 1);
        self.arrived.notify_waiters();
        Reader {
            queue: self.clone(),
            number: inner.number,
        }
    }

    pub(super) fn push(&self, body: T) -> Result<(), Full<T>> {
        let mut inner = self.inner();
        if inner.readers == 0 {
            return Err(Full::Nobody);
        }
        if inner.waiting.len() >= self.room {
            return Err(Full::Full(body));
        }
        inner.waiting.push_back((body, 0));
        drop(inner);
        self.arrived.notify_one();
        Ok(())
    }

    /// As `push`, and waits for room.
    pub(super) async fn push_patiently(&self, mut body: T) -> Result<(), Full<T>> {
        loop {
            let taken = self.taken.notified();
            match self.push(body) {
                Err(Full::Full(back)) => body = back,
                done => return done,
            }
            taken.await;
        }
    }

    /// Takes a message back that had no effect; it comes again after a pause, unless it came often enough.
    pub(super) fn back(&self, body: T, times: u32) {
        if times >= DELIVERY_LIMIT {
            Tally::one(&self.tally.dead);
            return tracing::error!(times, "a message that nobody could take is given up");
        }
        // One that stays away counts as one that waits, but is never refused: it was taken before.
        self.inner()
            .away
            .push((Instant::now() + pause(times), body, times));
        self.arrived.notify_one();
    }

    fn look(&self, number: u64, limit: usize, mut each: impl FnMut(T, u32)) -> Look {
        let mut inner = self.inner();
        if inner.number != number {
            return Look::Closed;
        }
        if !inner.away.is_empty() {
            let now = Instant::now();
            let (due, away) = std::mem::take(&mut inner.away)
                .into_iter()
                .partition(|(at, ..)| *at <= now);
            inner.away = away;
            let due: Vec<_> = due;
            for (_, body, times) in due.into_iter().rev() {
                inner.waiting.push_front((body, times));
            }
        }
        let count = inner.waiting.len().min(limit);
        if count == 0 {
            return Look::Nothing(inner.away.iter().map(|(at, ..)| *at).min());
        }
        let full = inner.waiting.len() >= self.room;
        for (body, times) in inner.waiting.drain(..count) {
            if times > 0 {
                Tally::one(&self.tally.redelivered);
            }
            each(body, times + 1);
        }
        // Another reader may be waiting for the rest.
        let more = !inner.waiting.is_empty();
        drop(inner);
        if more {
            self.arrived.notify_one();
        }
        if full {
            self.taken.notify_waiters();
        }
        Look::Some
    }
}

/// Reads a queue.
#[derive(Debug)]
pub(super) struct Reader<T> {
    queue: Arc<Queue<T>>,
    number: u64,
}

impl<T> Reader<T> {
    pub(super) fn queue(&self) -> &Arc<Queue<T>> {
        &self.queue
    }

    /// Waits for messages; each is handed to `each` with how often it came. None came when another reader
    /// has taken over.
    pub(super) async fn read(&self, limit: usize, mut each: impl FnMut(T, u32)) {
        loop {
            let arrived = self.queue.arrived.notified();
            match self.queue.look(self.number, limit, &mut each) {
                Look::Some | Look::Closed => return,
                Look::Nothing(None) => arrived.await,
                // Either it is time or something came; both mean: look.
                Look::Nothing(Some(due)) => drop(timeout_at(due, arrived).await),
            }
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut inner = self.queue.inner();
        if inner.number == self.number {
            inner.readers = inner.readers.saturating_sub(1);
        }
        drop(inner);
        // A sender that waits for room in a queue without a reader is to hear of it.
        self.queue.taken.notify_waiters();
        self.queue.arrived.notify_one();
    }
}
