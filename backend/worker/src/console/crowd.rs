//! The crowd of connections whose token has not come yet. There is room for so many; one more takes the place
//! of the one that has waited longest, so that whoever says nothing keeps nobody out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// See the module.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Those that wait, the first one first. Who is dropped from here hears of it.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A connection's place in the crowd, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    id: u64,
    lost: oneshot::Receiver<()>,
}

impl Crowd {
    /// With room for so many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        let state = Mutex::default();
        Arc::new(Crowd { most, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, another one's where there is none.
    pub(super) fn admit(self: &Arc<Self>) -> Place {
        let mut state = self.state();
        while state.waiting.len() >= self.most.max(1) {
            state.waiting.pop_first();
        }
        let (keep, lost) = oneshot::channel();
        let id = state.next;
        state.next += 1;
        state.waiting.insert(id, keep);
        drop(state);
        let crowd = self.clone();
        Place { crowd, id, lost }
    }
}

impl Place {
    /// Waits until another one takes this place.
    pub(super) async fn lost(&mut self) {
        drop((&mut self.lost).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.state().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use cumulet_certs::ConsoleSigner;
    use cumulet_domain::time::{ManualClock, Timestamp};
    use rand::{SeedableRng as _, rngs::StdRng};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_keeps_nobody_from_a_console() {
        let verifier = ConsoleSigner::generate(&mut StdRng::seed_from_u64(1)).verifier();
        let limits = ConsoleLimits {
            sessions: 1,
            idle: Duration::from_secs(60),
        };
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let host = ConsoleHost::new(Vec::new(), verifier, clock, limits);
        let mut silent: Vec<_> = (0..5 * STRANGERS).map(|_| host.connect()).collect();
        let mut asks = host.connect();
        asks.write_all(b"a token that is none\n").await.unwrap();
        let mut answer = String::new();
        asks.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("NO "), "{answer}");
        // The first of the silent ones were closed for it, and no time has passed: the last ones wait.
        assert_eq!(
            silent[0].read_u8().await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(host.strangers.state().waiting.len(), STRANGERS - 1);
    }
}
