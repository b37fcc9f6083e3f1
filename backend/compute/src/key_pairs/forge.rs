//! The generation of key pairs, which takes a processor for a fifth of a second or more. Half of the
//! processors do it, on threads that give way to all others, and accounts take turns: whoever wants many
//! waits behind others who want one. What nobody waits for any more is never begun.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_certs::{KeyPair, KeyType};
use cumulet_domain::{Error, Result, account::AccountId};
use rand::rngs::StdRng;
use tokio::sync::oneshot;

/// How much these threads give way, of 19.
const NICE: i32 = 10;

/// See the module. Clones share the threads.
#[derive(Clone)]
pub struct KeyForge(Arc<Shared>);

struct Shared {
    /// Threads at the most.
    threads: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Accounts that wait, the next one first, each with what it waits for.
    lanes: VecDeque<(AccountId, VecDeque<Job>)>,
}

struct Job {
    key_type: KeyType,
    rng: StdRng,
    reply: oneshot::Sender<Result<KeyPair>>,
}

impl Default for KeyForge {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        KeyForge::new(processors / 2)
    }
}

impl KeyForge {
    /// With so many threads, at least one.
    fn new(threads: usize) -> Self {
        KeyForge(Arc::new(Shared {
            threads: threads.max(1),
            state: Mutex::default(),
        }))
    }

    /// Makes a key pair. When the answer is not waited for any more before its turn, it is not made.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) async fn make(&self, account: AccountId, key_type: KeyType, rng: StdRng) -> Result<KeyPair> {
        let (reply, made) = oneshot::channel();
        let job = Job { key_type, rng, reply };
        let start = {
            let mut state = self.0.lock();
            state.push(account, job);
            let start = state.running < self.0.threads;
            state.running += usize::from(start);
            start
        };
        if start {
            let shared = self.0.clone();
            let thread = std::thread::Builder::new().name("key-forge".into());
            if let Err(error) = thread.spawn(move || shared.work()) {
                self.0.lock().running -= 1;
                return Err(Error::internal(&error));
            }
        }
        let gone = |_| Error::Internal("a thread that makes keys has ended".into());
        made.await.map_err(gone)?
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life: until nobody waits.
    fn work(&self) {
        // Of this thread alone, as Linux has it. Without it keys are made all the same.
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "a thread that makes keys has no lower priority");
        }
        while let Some(job) = self.next() {
            let mut rng = job.rng;
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                KeyPair::generate(job.key_type, &mut rng).map_err(|error| Error::internal(&error))
            }));
            let failed = |_| Err(Error::Internal("making a key pair panicked".into()));
            drop(job.reply.send(made.unwrap_or_else(failed)));
        }
    }

    /// The next job that somebody waits for; `None` ends the thread.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        let job = state.pop();
        if job.is_none() {
            state.running -= 1;
        }
        job
    }
}

impl State {
    fn push(&mut self, account: AccountId, job: Job) {
        match self.lanes.iter_mut().find(|(of, _)| *of == account) {
            Some((_, lane)) => lane.push_back(job),
            None => self.lanes.push_back((account, [job].into())),
        }
    }

    fn pop(&mut self) -> Option<Job> {
        loop {
            let (account, mut lane) = self.lanes.pop_front()?;
            let job = std::iter::from_fn(|| lane.pop_front()).find(|job| !job.reply.is_closed());
            if !lane.is_empty() {
                self.lanes.push_back((account, lane));
            }
            if job.is_some() {
                return job;
            }
        }
    }
}

impl fmt::Debug for KeyForge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyForge")
            .field("threads", &self.0.threads)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn job() -> (Job, oneshot::Receiver<Result<KeyPair>>) {
        let (reply, made) = oneshot::channel();
        let job = Job {
            key_type: KeyType::Ed25519,
            rng: StdRng::seed_from_u64(1),
            reply,
        };
        (job, made)
    }

    #[test]
    fn accounts_take_turns_and_what_nobody_waits_for_is_not_begun() {
        let mut state = State::default();
        let mut waiting = Vec::new();
        for account in [1, 1, 1, 1, 2, 3, 1] {
            let (job, made) = job();
            state.push(AccountId(account), job);
            waiting.push(Some(made));
        }
        // The client of the second one, and that of account 3, have gone.
        waiting[1] = None;
        waiting[5] = None;
        let mut order = Vec::new();
        while let Some(job) = state.pop() {
            drop(job.reply);
            let ended = waiting.iter_mut().enumerate().find_map(|(n, made)| {
                let ended = matches!(
                    made.as_mut()?.try_recv(),
                    Err(oneshot::error::TryRecvError::Closed)
                );
                ended.then_some(n)
            });
            waiting[ended.unwrap()] = None;
            order.push(ended.unwrap());
        }
        assert_eq!(order, [0, 4, 2, 3, 6]);
    }

    #[tokio::test]
    async fn keys_are_made_by_so_many_threads_which_end() {
        let forge = KeyForge::new(2);
        let each = (0..8).map(|n| forge.make(AccountId(n), KeyType::Ed25519, StdRng::seed_from_u64(n)));
        for made in futures::future::join_all(each).await {
            made.unwrap();
        }
        while forge.0.lock().running > 0 {
            tokio::task::yield_now().await;
        }
        assert!(
            forge
                .make(AccountId(1), KeyType::Ed25519, StdRng::seed_from_u64(9))
                .await
                .is_ok()
        );
    }
}
