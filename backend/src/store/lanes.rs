//! The queue before SQLite's one writer: changes, and rehearsals, which give way to them.
//!
//! A rehearsal (DryRun) writes as the call does, and SQLite has one writer for all that writes, kept or not: on a
//! connection of its own it would hold the same lock, and the writer would wait for it or fail. So it runs
//! on the writer, but only while no change waits, and it is broken off at its next statement when one comes:
//! nothing of it would have been kept, and it is run again later. One that is broken off again and again
//! runs to its end at last, at most once in a while for all of them; then changes wait for it that once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Times that a rehearsal is broken off until it is one of those that run to their end.
const PATIENCE: u32 = 10;

/// How often one does that runs to its end whatever waits.
const BETWEEN: Duration = Duration::from_secs(10);

/// What waits in such a queue.
pub(super) trait Waits {
    /// Whether it is a rehearsal.
    fn is_rehearsal(&self) -> bool;
    /// How often it has been broken off.
    fn broken_off(&self) -> u32;
}

/// See the module. Clones are the same queue.
#[derive(Debug)]
pub(super) struct Lanes<T>(Arc<Shared<T>>);

impl<T> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        Lanes(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    came: Condvar,
    urgent: Urgent,
}

#[derive(Debug)]
struct State<T> {
    changes: VecDeque<T>,
    rehearsals: VecDeque<T>,
    /// When a rehearsal last ran to its end whatever waited.
    whole: Option<Instant>,
    closed: bool,
}

/// How many changes wait. Cheap to look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Urgent(Arc<AtomicUsize>);

impl Urgent {
    /// Whether one does.
    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// Changes, together.
    Changes(Vec<T>),
    /// A rehearsal; whether it may be broken off.
    Rehearsal(T, bool),
}

impl<T: Waits> Lanes<T> {
    pub(super) fn new() -> Self {
        Lanes(Arc::new(Shared {
            state: Mutex::new(State {
                changes: VecDeque::new(),
                rehearsals: VecDeque::new(),
                whole: None,
                closed: false,
            }),
            came: Condvar::new(),
            urgent: Urgent::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many changes wait.
    pub(super) fn urgent(&self) -> Urgent {
        self.0.urgent.clone()
    }

    /// Adds one at the end.
    ///
    /// # Errors
    /// When nobody serves any more: the one.
    pub(super) fn push(&self, one: T) -> Result<(), T> {
        let mut state = self.state();
        if state.closed {
            return Err(one);
        }
        if one.is_rehearsal() {
            state.rehearsals.push_back(one);
        } else {
            state.changes.push_back(one);
            self.0.urgent.0.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        self.0.came.notify_one();
        Ok(())
    }

    /// Nothing more will come; what is there is still served.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.0.came.notify_all();
    }

    /// What comes next, at most so many at once; waits for it. `None` at the end.
    pub(super) fn next(&self, most: usize) -> Option<Next<T>> {
        let mut state = self.state();
        loop {
            if let Some(next) = state.take(most, Instant::now()) {
                if let Next::Changes(changes) = &next {
                    self.0.urgent.0.fetch_sub(changes.len(), Ordering::AcqRel);
                }
                return Some(next);
            }
            if state.closed {
                return None;
            }
            let woken = self.0.came.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T: Waits> State<T> {
    fn take(&mut self, most: usize, now: Instant) -> Option<Next<T>> {
        let first = self.rehearsals.front();
        let due = self.whole.is_none_or(|last| now - last >= BETWEEN);
        if due && first.is_some_and(|first| first.broken_off() >= PATIENCE) {
            self.whole = Some(now);
            return Some(Next::Rehearsal(self.rehearsals.pop_front()?, false));
        }
        if self.changes.is_empty() {
            return Some(Next::Rehearsal(self.rehearsals.pop_front()?, true));
        }
        let count = self.changes.len().min(most);
        Some(Next::Changes(self.changes.drain(..count).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct One(u32, bool, u32);

    impl Waits for One {
        fn is_rehearsal(&self) -> bool {
            self.1
        }

        fn broken_off(&self) -> u32 {
            self.2
        }
    }

    #[test]
    fn rehearsals_come_when_no_change_waits() {
        let lanes = Lanes::new();
        for one in [
            One(1, true, 0),
            One(2, false, 0),
            One(3, true, 0),
            One(4, false, 0),
            One(5, false, 0),
        ] {
            lanes.push(one).unwrap();
        }
        assert!(lanes.urgent().is());
        assert_eq!(
            lanes.next(2),
            Some(Next::Changes(vec![One(2, false, 0), One(4, false, 0)]))
        );
        assert_eq!(lanes.next(2), Some(Next::Changes(vec![One(5, false, 0)])));
        assert!(!lanes.urgent().is());
        assert_eq!(lanes.next(2), Some(Next::Rehearsal(One(1, true, 0), true)));
        lanes.close();
        assert_eq!(lanes.push(One(6, true, 0)), Err(One(6, true, 0)));
        assert_eq!(lanes.next(2), Some(Next::Rehearsal(One(3, true, 0), true)));
        assert_eq!(lanes.next(2), None);
    }

    #[test]
    fn one_that_is_broken_off_for_ever_runs_to_its_end_now_and_then() {
        let lanes = Lanes::new();
        let (tired, change) = (|n| One(n, true, PATIENCE), || One(9, false, 0));
        for one in [tired(1), tired(2), change()] {
            lanes.push(one).unwrap();
        }
        let now = Instant::now();
        let mut state = lanes.state();
        assert_eq!(state.take(1, now), Some(Next::Rehearsal(tired(1), false)));
        assert_eq!(state.take(1, now), Some(Next::Changes(vec![change()])));
        assert_eq!(state.take(1, now), Some(Next::Rehearsal(tired(2), true)));
        state.rehearsals.push_back(tired(3));
        state.changes.push_back(change());
        assert_eq!(
            state.take(1, now + BETWEEN),
            Some(Next::Rehearsal(tired(3), false))
        );
    }

    #[test]
    fn who_waits_for_one_is_woken() {
        let lanes = Lanes::new();
        let other = lanes.clone();
        let waits = std::thread::spawn(move || other.next(1));
        lanes.push(One(1, false, 0)).unwrap();
        assert_eq!(waits.join().unwrap(), Some(Next::Changes(vec![One(1, false, 0)])));
    }
}
