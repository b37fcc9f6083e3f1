//! The life of a worker: the tasks that it consists of. They are polled one at a time, stand still together, and end
//! together, wherever they are, as the end of a process would. The host's present one is ended by whoever kills it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
};

use cumulet_worker::{Task, Tasks};

use super::Host;
use crate::outcome::Invariant;

thread_local! {
    /// The host whose worker's turn it is.
    static CURRENT: RefCell<Option<Arc<Host>>> = const { RefCell::new(None) };
}

/// The host whose worker does what is done now, if one does: who dies at a crash point.
pub(crate) fn current() -> Option<Arc<Host>> {
    CURRENT.with_borrow(Clone::clone)
}

/// See the module.
pub(super) struct Life {
    host: Weak<Host>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_over: bool,
    is_still: bool,
    next: u64,
    /// Whom to wake, in the order in which they began: the same in every run of a seed.
    tasks: BTreeMap<u64, Option<Waker>>,
}

impl Life {
    pub(super) fn new(host: &Weak<Host>, is_still: bool) -> Arc<Self> {
        let state = State {
            is_still,
            ..State::default()
        };
        Arc::new(Life {
            host: host.clone(),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all of it; false if it had ended.
    pub(super) fn end(&self) -> bool {
        let was_over = std::mem::replace(&mut self.state().is_over, true);
        self.wake();
        !was_over
    }

    /// All of it stands still from now on, or goes on.
    pub(super) fn hold(&self, still: bool) {
        self.state().is_still = still;
        if !still {
            self.wake();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    fn wake(&self) {
        let wakers: Vec<_> = self.state().tasks.values().flatten().cloned().collect();
        wakers.iter().for_each(Waker::wake_by_ref);
    }
}

/// What a worker is handed as its tasks.
pub(super) struct Within(pub(super) Arc<Life>);

impl Tasks for Within {
    fn within(&self, task: Task) -> Task {
        let mut state = self.0.state();
        state.next += 1;
        let number = state.next;
        state.tasks.insert(number, None);
        Box::pin(Member {
            life: self.0.clone(),
            number,
            task: Some(task),
        })
    }
}

/// A task of a life.
struct Member {
    life: Arc<Life>,
    number: u64,
    task: Option<Task>,
}

impl Member {
    /// Whether it may go on; if not now, it is woken when it may.
    fn goes_on(&self, context: &Context<'_>) -> Option<bool> {
        let mut state = self.life.state();
        if state.is_over {
            return None;
        }
        let is_still = state.is_still;
        let waker = state.tasks.entry(self.number).or_default();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        Some(!is_still)
    }
}

impl Future for Member {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.goes_on(context) {
            None => {
                // Here, and not when somebody has time for it: what it held is free.
                self.task = None;
                return Poll::Ready(());
            }
            Some(false) => return Poll::Pending,
            Some(true) => {}
        }
        let _turn = Turn::of(&self.life);
        match &mut self.task {
            Some(task) => task.as_mut().poll(context),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.life.state().tasks.remove(&self.number);
    }
}

/// The turn of one worker, until it is dropped.
struct Turn {
    before: Option<Arc<Host>>,
    life: Arc<Life>,
}

impl Turn {
    fn of(life: &Arc<Life>) -> Self {
        let host = life.host.upgrade();
        Turn {
            before: CURRENT.with_borrow_mut(|current| std::mem::replace(current, host)),
            life: life.clone(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let before = self.before.take();
        let host = CURRENT.with_borrow_mut(|current| std::mem::replace(current, before));
        // Who dies at a crash point has ended before.
        if let Some(host) = host
            && std::thread::panicking()
            && !self.life.is_over()
        {
            let id = &host.id;
            host.world
                .violate(Invariant::Errors, format_args!("{id}: a worker panicked"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::yield_now;

    use super::*;

    /// Counts as long as it lives, and says when it is gone.
    struct Counting(Arc<AtomicU32>);

    impl Drop for Counting {
        fn drop(&mut self) {
            self.0.store(u32::MAX, Ordering::Relaxed);
        }
    }

    fn spawn(life: &Arc<Life>) -> Arc<AtomicU32> {
        let count = Arc::new(AtomicU32::new(0));
        let counting = Counting(count.clone());
        let task = async move {
            loop {
                counting.0.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        drop(tokio::spawn(Within(life.clone()).within(Box::pin(task))));
        count
    }

    async fn some_turns() {
        for _ in 0..8 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn all_tasks_of_a_life_stand_still_go_on_and_end_together() {
        let life = Life::new(&Weak::new(), true);
        let counts = [spawn(&life), spawn(&life)];
        let read = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        some_turns().await;
        assert_eq!(read(), [0, 0], "it began while all stood still");
        life.hold(false);
        some_turns().await;
        assert!(read().iter().all(|count| *count > 3), "{:?}", read());
        life.hold(true);
        some_turns().await;
        let before = read();
        some_turns().await;
        assert_eq!(read(), before);
        assert!(life.end());
        some_turns().await;
        assert_eq!(read(), [u32::MAX; 2], "what they held is free");
        assert!(!life.end() && life.state().tasks.is_empty());
        // Whoever comes too late never begins.
        let late = spawn(&life);
        some_turns().await;
        assert_eq!(late.load(Ordering::Relaxed), u32::MAX);
    }
}
