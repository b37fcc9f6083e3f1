//! Threads of a command that takes one piece of work after the other, several at a time.

use anyhow::{Result, anyhow};

/// Runs `work` in so many threads (one at least) and waits for all of them.
///
/// # Errors
/// The first thread's that failed, or that one panicked.
pub(super) fn at_once(jobs: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(&work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a run panicked"))?)
    })
}
