//! The queue before SQLite's one writer: changes, large ones in a lane of their own, and rehearsals, which give
//! way to both.
//!
//! A large change (tags of a thousand resources) is one transaction, since it is made as a whole or not at all,
//! and takes the writer for up to a tenth of a second. So it is committed alone, and between two of them come
//! all others that wait: a change waits for one large one at the most, however many there are.
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

/// Where something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For a commit together with others.
    Change,
    /// For one of its own.
    Large,
    /// Until nothing else waits: it is undone.
    Rehearsal,
}

/// What waits in such a queue.
pub(super) trait Waits {
    /// Where it does.
    fn lane(&self) -> Lane;
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
    large: VecDeque<T>,
    rehearsals: VecDeque<T>,
    /// Whether a large change was the last to run: then others go first.
    was_large: bool,
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
                large: VecDeque::new(),
                rehearsals: VecDeque::new(),
                was_large: false,
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
        let lane = one.lane();
        match lane {
            Lane::Change => state.changes.push_back(one),
            Lane::Large => state.large.push_back(one),
            Lane::Rehearsal => state.rehearsals.push_back(one),
        }
        if lane != Lane::Rehearsal {
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
        let turn = !self.was_large || self.changes.is_empty();
        if let Some(large) = self.large.pop_front_if(|_| turn) {
            self.was_large = true;
            return Some(Next::Changes(vec![large]));
        }
        self.was_large = false;
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
    struct One(u32, Lane, u32);

    use Lane::{Change, Large, Rehearsal};

    impl Waits for One {
        fn lane(&self) -> Lane {
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
            One(1, Rehearsal, 0),
            One(2, Change, 0),
            One(3, Rehearsal, 0),
            One(4, Change, 0),
            One(5, Change, 0),
        ] {
            lanes.push(one).unwrap();
        }
        assert!(lanes.urgent().is());
        assert_eq!(
            lanes.next(2),
            Some(Next::Changes(vec![One(2, Change, 0), One(4, Change, 0)]))
        );
        assert_eq!(lanes.next(2), Some(Next::Changes(vec![One(5, Change, 0)])));
        assert!(!lanes.urgent().is());
        assert_eq!(lanes.next(2), Some(Next::Rehearsal(One(1, Rehearsal, 0), true)));
        lanes.close();
        assert_eq!(lanes.push(One(6, Rehearsal, 0)), Err(One(6, Rehearsal, 0)));
        assert_eq!(lanes.next(2), Some(Next::Rehearsal(One(3, Rehearsal, 0), true)));
        assert_eq!(lanes.next(2), None);
    }

    #[test]
    fn a_change_waits_for_one_large_one_at_the_most() {
        let lanes = Lanes::new();
        for n in 0..3 {
            lanes.push(One(n, Large, 0)).unwrap();
        }
        lanes.push(One(10, Change, 0)).unwrap();
        lanes.push(One(20, Rehearsal, 0)).unwrap();
        let mut order = Vec::new();
        for _ in 0..3 {
            let Some(Next::Changes(next)) = lanes.next(9) else {
                panic!()
            };
            // While the large one runs, others come.
            if next[0].1 == Large {
                lanes.push(One(11 + next[0].0, Change, 0)).unwrap();
            }
            order.push(next.iter().map(|one| one.0).collect::<Vec<_>>());
        }
        assert_eq!(order, [vec![0], vec![10, 11], vec![1]]);
        assert!(lanes.urgent().is());
        assert_eq!(lanes.next(9), Some(Next::Changes(vec![One(12, Change, 0)])));
        // They wait no longer than for the next commit themselves.
        lanes.push(One(13, Change, 0)).unwrap();
        assert_eq!(lanes.next(9), Some(Next::Changes(vec![One(2, Large, 0)])));
        assert_eq!(lanes.next(9), Some(Next::Changes(vec![One(13, Change, 0)])));
        assert!(!lanes.urgent().is());
        assert_eq!(lanes.next(9), Some(Next::Rehearsal(One(20, Rehearsal, 0), true)));
    }

    #[test]
    fn one_that_is_broken_off_for_ever_runs_to_its_end_now_and_then() {
        let lanes = Lanes::new();
        let (tired, change) = (|n| One(n, Rehearsal, PATIENCE), || One(9, Change, 0));
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
        lanes.push(One(1, Change, 0)).unwrap();
        assert_eq!(
            waits.join().unwrap(),
            Some(Next::Changes(vec![One(1, Change, 0)]))
        );
    }
}
