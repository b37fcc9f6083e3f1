//! The threads of the worker's blocking work: file work that a disk may keep for as long as it likes. So many and no
//! more, of those that the runtime has: a host whose every disk hangs leaves the others to whoever else is in the
//! process (an API, a conductor), and its own heartbeats go on, which wait for none of it. What copies whole disks has
//! threads beside those, so that nothing small waits for hours.

use std::io;

use tokio::sync::Semaphore;

/// Threads for the worker's file work at the most, also where none of it comes back. A runtime that it shares with
/// others has more.
pub const BLOCKING_THREADS: usize = 16;

/// Threads for copies of whole disks at the most. Who copies has a place (`places.rs`), and there are fewer of those:
/// this holds where they are more, or a copy goes on that nobody waits for any more.
pub const COPYING_THREADS: usize = 8;

/// Those that are free: for file work, and for copies.
struct Free {
    files: Semaphore,
    copies: Semaphore,
}

impl Free {
    const fn new() -> Free {
        Free {
            files: Semaphore::const_new(BLOCKING_THREADS),
            copies: Semaphore::const_new(COPYING_THREADS),
        }
    }
}

#[cfg(not(test))]
fn free() -> &'static Free {
    static FREE: Free = Free::new();
    &FREE
}

/// The same for each test, which has a thread of its own: where one test's disks hang, another's clock would run away.
#[cfg(test)]
fn free() -> &'static Free {
    thread_local! {
        static FREE: &'static Free = Box::leak(Box::new(Free::new()));
    }
    FREE.with(|free| *free)
}

/// Does something that may block on a thread that may, when one of the worker's is free.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    within(&free().files, work).await
}

/// The same for what copies a whole disk: it takes none of those threads.
pub(crate) async fn copying<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    within(&free().copies, work).await
}

async fn within<T: Send + 'static>(
    free: &'static Semaphore,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let place = free.acquire().await.map_err(io::Error::other)?;
    at_once(move || {
        // It goes with the thread, not with the caller that may give up waiting.
        let _place = place;
        work()
    })
    .await
}

/// The same for what no disk keeps (the kernel's own files): it waits for nobody's.
pub(crate) async fn at_once<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        sync::{
            Arc, Condvar, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;

    /// File work that hangs until this is dropped.
    #[derive(Default)]
    pub(crate) struct Hanging(Arc<(Mutex<bool>, Condvar)>);

    impl Hanging {
        /// Takes every thread that the worker may have for files, and asks for more; answers when they are taken.
        pub(crate) async fn everywhere() -> Self {
            let hanging = Hanging::default();
            let taken = Arc::new(AtomicUsize::new(0));
            for _ in 0..2 * BLOCKING_THREADS {
                tokio::spawn(blocking(hanging.work(&taken)));
            }
            while taken.load(Ordering::Acquire) < BLOCKING_THREADS {
                tokio::task::yield_now().await;
            }
            hanging
        }

        /// The same of those for copies.
        async fn in_every_copy() -> Self {
            let hanging = Hanging::default();
            let taken = Arc::new(AtomicUsize::new(0));
            for _ in 0..2 * BLOCKING_THREADS {
                tokio::spawn(copying(hanging.work(&taken)));
            }
            while taken.load(Ordering::Acquire) < COPYING_THREADS {
                tokio::task::yield_now().await;
            }
            hanging
        }

        /// Work that counts itself when it has a thread.
        fn work(&self, taken: &Arc<AtomicUsize>) -> impl FnOnce() -> io::Result<()> + Send + 'static + use<> {
            let (gate, taken) = (self.0.clone(), taken.clone());
            move || {
                taken.fetch_add(1, Ordering::AcqRel);
                let (is_over, told) = &*gate;
                let over = told.wait_while(is_over.lock().unwrap(), |is_over| !*is_over);
                drop(over.unwrap());
                Ok(())
            }
        }
    }

    impl Drop for Hanging {
        fn drop(&mut self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_all();
        }
    }

    #[test]
    fn disks_that_hang_leave_threads_for_others() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS + 1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let hanging = Hanging::everywhere().await;
            let others = tokio::time::timeout(Duration::from_secs(20), tokio::task::spawn_blocking(|| 7));
            assert_eq!(others.await.expect("a thread is free").unwrap(), 7);
            let kernels = tokio::time::timeout(Duration::from_secs(20), at_once(|| Ok(8)));
            assert_eq!(kernels.await.expect("a thread is free").unwrap(), 8);
            // Its own waits, and goes on when the disks do.
            let mut own = Box::pin(blocking(|| Ok(9)));
            tokio::select! {
                biased;
                _ = &mut own => panic!("there is no thread for it"),
                () = std::future::ready(()) => {}
            }
            drop(hanging);
            assert_eq!(own.await.unwrap(), 9);
        });
    }

    /// Once sixteen disks that were made of snapshots were all of the worker's file work, for hours.
    #[tokio::test]
    async fn copies_that_take_hours_leave_the_file_work_its_threads() {
        let hanging = Hanging::in_every_copy().await;
        let files = tokio::time::timeout(Duration::from_secs(20), blocking(|| Ok(7)));
        assert_eq!(files.await.expect("a thread is free").unwrap(), 7);
        drop(hanging);
        // Nor do copies wait for disks that hang otherwise.
        let hanging = Hanging::everywhere().await;
        let copies = tokio::time::timeout(Duration::from_secs(20), copying(|| Ok(8)));
        assert_eq!(copies.await.expect("a thread is free").unwrap(), 8);
        drop(hanging);
    }
}
