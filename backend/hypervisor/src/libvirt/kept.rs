//! A cached answer that is valid until the connection to libvirt is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The answer, if there is one.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    answer: Option<Arc<T>>,
    /// How often it was forgotten.
    turn: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(Mutex::new(State {
            answer: None,
            turn: 0,
        }))
    }
}

impl<T> Kept<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.state().answer.clone()
    }

    /// To be taken before the question is asked.
    pub(super) fn turn(&self) -> u64 {
        self.state().turn
    }

    /// Keeps an answer, unless all was forgotten since the question was asked.
    pub(super) fn keep(&self, turn: u64, answer: T) -> Arc<T> {
        let answer = Arc::new(answer);
        let mut state = self.state();
        if state.turn == turn {
            state.answer = Some(answer.clone());
        }
        answer
    }

    /// What is asked from here on is asked anew.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.answer = None;
        state.turn += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_until_it_is_forgotten_and_an_old_one_is_not_kept() {
        let kept = Kept::default();
        assert_eq!(kept.get(), None);
        let turn = kept.turn();
        assert_eq!(*kept.keep(turn, 1), 1);
        assert_eq!(kept.get().as_deref(), Some(&1));
        let asked = kept.turn();
        kept.forget();
        assert_eq!(kept.get(), None);
        assert_eq!(*kept.keep(asked, 2), 2, "whoever asked is answered");
        assert_eq!(kept.get(), None, "and the next one asks again");
        kept.keep(kept.turn(), 3);
        assert_eq!(kept.get().as_deref(), Some(&3));
    }
}
