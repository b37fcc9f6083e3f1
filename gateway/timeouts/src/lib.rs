//! Time-outs of a client's connection: how long it may keep its server waiting.
//!
//! actix-http's timers know the first head of a connection and the pause between two requests, and
//! forget what comes in part after that: a later head, a chunked body that was given up, an answer that
//! nobody reads. A [`ConnectionTimeout`] belongs to a connection's stream, where everything that happens
//! to the connection is seen, and always has a deadline except while the server itself is at work.
//!
//! ```text
//!            first byte of a request            answer written
//!  between ───────────────────────▶ request ───────────────────▶ between
//!   (idle)                           (head)                      (idle)
//!      └───────────────── an answer that can't be written: stalled ─┘
//! ```

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// How long what may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From one answer to the first byte of the next request.
    pub idle: Duration,
    /// From a request's first byte until the server sets to work, however many bytes come meanwhile.
    pub head: Duration,
    /// From one piece of an answer that the other side takes to the next.
    pub stall: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Between,
    Request,
    Stalled,
}

/// A connection's deadline.
#[derive(Debug)]
pub struct ConnectionTimeout {
    limits: Limits,
    phase: Phase,
    deadline: Instant,
    /// Set to the deadline or before it: a deadline that moves away, as it does with every answer,
    /// costs no timer.
    timer: Pin<Box<Sleep>>,
}

impl ConnectionTimeout {
    /// That of a new connection, which may be silent as one between two requests.
    pub fn new(limits: Limits) -> Self {
        let deadline = Instant::now() + limits.idle;
        ConnectionTimeout {
            limits,
            phase: Phase::Between,
            deadline,
            timer: Box::pin(sleep_until(deadline)),
        }
    }

    /// Bytes have come. Only the first ones of a request give it time.
    pub fn received(&mut self) {
        if self.phase == Phase::Between {
            self.enter(Phase::Request, self.limits.head);
        }
    }

    /// The other side has taken a piece of an answer.
    pub fn written(&mut self) {
        self.enter(Phase::Between, self.limits.idle);
    }

    /// A piece of an answer could not be written.
    pub fn stalled(&mut self) {
        if self.phase != Phase::Stalled {
            self.enter(Phase::Stalled, self.limits.stall);
        }
    }

    fn enter(&mut self, phase: Phase, time: Duration) {
        self.phase = phase;
        self.deadline = Instant::now() + time;
    }

    /// Ready when the connection is to be given up; to be polled whenever reading or writing has to
    /// wait. While the server is `at_work` on a request, the time is its own: the clock stands.
    pub fn poll_over(&mut self, context: &mut Context<'_>, at_work: bool) -> Poll<io::Error> {
        if at_work {
            self.deadline = Instant::now() + self.limits.stall;
        }
        if self.deadline < self.timer.deadline() {
            self.timer.as_mut().reset(self.deadline);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(io::Error::from(io::ErrorKind::TimedOut));
            }
            self.timer.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMITS: Limits = Limits {
        idle: Duration::from_secs(60),
        head: Duration::from_secs(10),
        stall: Duration::from_secs(30),
    };

    /// Waits for the end; how many seconds after `start` it came.
    async fn over(timeout: &mut ConnectionTimeout, start: Instant) -> u64 {
        let error = poll_fn(|context| timeout.poll_over(context, false)).await;
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        start.elapsed().as_secs()
    }

    /// Lets time pass with the connection being polled, as its task does.
    async fn pass(timeout: &mut ConnectionTimeout, seconds: u64, at_work: bool) {
        let polled = poll_fn(|context| timeout.poll_over(context, at_work));
        let ended = tokio::time::timeout(Duration::from_secs(seconds), polled).await;
        assert!(ended.is_err(), "given up within {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_new_connection() {
        let start = Instant::now();
        assert_eq!(over(&mut ConnectionTimeout::new(LIMITS), start).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_its_time_however_it_drips() {
        let (start, mut timeout) = (Instant::now(), ConnectionTimeout::new(LIMITS));
        pass(&mut timeout, 50, false).await;
        for _ in 0..9 {
            timeout.received();
            pass(&mut timeout, 1, false).await;
        }
        timeout.received();
        assert_eq!(over(&mut timeout, start).await, 60);
        // The same after answers, which is where the server's own timers end.
        let (start, mut timeout) = (Instant::now(), ConnectionTimeout::new(LIMITS));
        for _ in 0..5 {
            timeout.received();
            pass(&mut timeout, 5, false).await;
            timeout.written();
        }
        timeout.received();
        assert_eq!(over(&mut timeout, start).await, 35);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_time_and_the_servers_own_work_end_nothing() {
        let (start, mut timeout) = (Instant::now(), ConnectionTimeout::new(LIMITS));
        for _ in 0..20 {
            timeout.received();
            pass(&mut timeout, 9, false).await;
            pass(&mut timeout, 600, true).await;
            timeout.written();
            pass(&mut timeout, 59, false).await;
        }
        timeout.written();
        assert_eq!(over(&mut timeout, start).await, 20 * 668 + 60);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_given_up_and_who_reads_slowly_is_not() {
        let (start, mut timeout) = (Instant::now(), ConnectionTimeout::new(LIMITS));
        for _ in 0..5 {
            timeout.stalled();
            pass(&mut timeout, 20, false).await;
            timeout.written();
        }
        for _ in 0..3 {
            timeout.stalled();
            // Sending more requests is no reading.
            timeout.received();
            pass(&mut timeout, 5, false).await;
        }
        timeout.stalled();
        assert_eq!(over(&mut timeout, start).await, 130);
    }
}
