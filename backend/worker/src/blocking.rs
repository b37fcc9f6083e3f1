//! The threads of the worker's blocking work: file work that a disk may keep for as long as it likes. So many and no
//! more, of those that the runtime has: a host whose every disk hangs leaves the others to whoever else is in the
//! process (an API, a conductor), and its own heartbeats go on, which wait for none of it.

use std::io;

use tokio::sync::Semaphore;

/// Threads for the worker's file work at the most, also where none of it comes back. A runtime that it shares with
/// others has more.
pub const BLOCKING_THREADS: usize = 16;

/// Those that are free.
#[cfg(not(test))]
fn free() -> &'static Semaphore {
    static FREE: Semaphore = Semaphore::const_new(BLOCKING_THREADS);
    &FREE
}

/// The same for each test, which has a thread of its own: where one test's disks hang, another's clock would run away.
#[cfg(test)]
fn free() -> &'static Semaphore {
    thread_local! {
        static FREE: &'static Semaphore = Box::leak(Box::new(Semaphore::new(BLOCKING_THREADS)));
    }
    FREE.with(|free| *free)
}

/// Does something that may block on a thread that may, when one of the worker's is free.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let place = free().acquire().await.map_err(io::Error::other)?;
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
        /// Takes every thread that the worker may have, and asks for more; answers when they are taken.
        pub(crate) async fn everywhere() -> Self {
            let hanging = Hanging::default();
            let taken = Arc::new(AtomicUsize::new(0));
            for _ in 0..2 * BLOCKING_THREADS {
                let (gate, taken) = (hanging.0.clone(), taken.clone());
                tokio::spawn(blocking(move || {
                    taken.fetch_add(1, Ordering::AcqRel);
                    let (is_over, told) = &*gate;
                    let over = told.wait_while(is_over.lock().unwrap(), |is_over| !*is_over);
                    drop(over.unwrap());
                    Ok(())
                }));
            }
            while taken.load(Ordering::Acquire) < BLOCKING_THREADS {
                tokio::task::yield_now().await;
            }
            hanging
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
}
