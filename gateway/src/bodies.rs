//! Requests' bodies: read within bounds, into memory that grows by what has come, and that all bodies of a
//! process have one budget of. The head has been judged before: what a stranger can make the process keep is
//! a small body for each connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};

/// The largest body: no request of these services comes near it.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Bytes of each body that the budget does not count, and the most that a stranger may send: connections bound
/// how many there are. All but launches with user data and lists of a thousand ids are smaller.
pub(crate) const SMALL_BODY: usize = 16 << 10;

/// Why a body is not read.
pub(crate) type Refusal = (&'static str, u16, &'static str);

/// It is larger than any may be.
pub(crate) const TOO_LARGE: Refusal = (
    "RequestEntityTooLarge",
    413,
    "The request's body is larger than 1 MiB.",
);

const LATE: Refusal = (
    "RequestTimeout",
    408,
    "The request's body did not arrive in time.",
);

const BROKEN: Refusal = ("InvalidRequest", 400, "The request's body could not be read.");

const FULL: Refusal = (
    "Unavailable",
    503,
    "Too many large requests are being received. Please try again shortly.",
);

/// The memory of all bodies of a process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Bodies(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    most: usize,
    used: AtomicUsize,
}

/// A body, and its part of the budget.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// Given back with this.
    _held: Held,
}

#[derive(Debug)]
struct Held {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Bodies {
    /// So many bytes for all bodies, what is counted of them.
    pub(crate) fn new(most: usize) -> Self {
        let used = AtomicUsize::new(0);
        Bodies(Arc::new(Memory { most, used }))
    }

    /// What is in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }

    /// Reads a body of at most so many bytes, which may take so long.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) async fn read<S, E>(&self, parts: S, most: usize, time: Duration) -> Result<Body, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let whole = tokio::time::timeout(time, self.gather(parts, most)).await;
        whole.unwrap_or(Err(LATE))
    }

    async fn gather<S, E>(&self, mut parts: S, most: usize) -> Result<Body, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let mut held = Held {
            memory: self.0.clone(),
            bytes: 0,
        };
        let mut body = BytesMut::new();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| BROKEN)?;
            if body.len() + part.len() > most {
                return Err(TOO_LARGE);
            }
            held.grow(grown(body.capacity(), body.len() + part.len()))?;
            body.extend_from_slice(&part);
        }
        let bytes = body.freeze();
        Ok(Body { bytes, _held: held })
    }
}

/// What a buffer takes when so much is in it.
fn grown(capacity: usize, length: usize) -> usize {
    if length <= capacity {
        capacity
    } else {
        length.max(capacity * 2)
    }
}

impl Held {
    /// Makes it so many bytes, of which the first ones are not counted.
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(SMALL_BODY).saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let memory = &self.memory;
        let add = |used: usize| used.checked_add(more).filter(|sum| *sum <= memory.most);
        let added = memory.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        added.map_err(|_| FULL)?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Lets a small body come and keeps nothing of it, so that the answer to its head is read: a connection that
/// is closed while something comes in loses its answer.
pub(crate) async fn discard<S, E>(mut parts: S, time: Duration)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut count = 0;
    let all = async {
        while let Some(Ok(part)) = parts.next().await {
            count += part.len();
            if count > SMALL_BODY {
                break;
            }
        }
    };
    drop(tokio::time::timeout(time, all).await);
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::stream;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn parts(count: usize, each: usize) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
        stream::iter((0..count).map(move |_| Ok(Bytes::from(vec![b'x'; each]))))
    }

    #[tokio::test]
    async fn the_memory_of_all_bodies_is_bounded_and_given_back() {
        let bodies = Bodies::new(3 * MAX_BODY);
        let mut kept = Vec::new();
        let refused = loop {
            match bodies.read(parts(100, 10_000), MAX_BODY, LONG).await {
                Ok(body) => kept.push(body),
                Err(refusal) => break refusal,
            }
            assert!(bodies.used() <= 3 * MAX_BODY);
        };
        assert_eq!((refused, kept.len()), (FULL, 2));
        assert_eq!(kept[0].bytes.len(), 1_000_000);
        // Small ones are read all the same.
        assert!(bodies.read(parts(16, 1024), MAX_BODY, LONG).await.is_ok());
        drop(kept);
        assert_eq!(bodies.used(), 0);
        assert!(bodies.read(parts(100, 10_000), MAX_BODY, LONG).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_or_is_too_much_holds_nothing() {
        let bodies = Bodies::new(MAX_BODY);
        let silent = parts(3, 100_000).chain(stream::pending());
        assert_eq!(bodies.read(silent, MAX_BODY, LONG).await.unwrap_err(), LATE);
        assert_eq!(
            bodies.read(parts(3, 6000), SMALL_BODY, LONG).await.unwrap_err(),
            TOO_LARGE
        );
        let broken = parts(1, 50_000).chain(stream::iter([Err(io::ErrorKind::Other.into())]));
        assert_eq!(bodies.read(broken, MAX_BODY, LONG).await.unwrap_err(), BROKEN);
        assert_eq!(bodies.used(), 0);
        discard(parts(1, 10).chain(stream::pending()), LONG).await;
        discard(parts(1_000_000, 10_000), LONG).await;
    }
}
