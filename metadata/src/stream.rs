//! A guest's connection, as actix-http reads and writes it.
//!
//! Three things happen at this level because only here it is known what goes over the wire when: no
//! more is read ahead than one request's head may have, and the IP TTL of a token's response is set
//! right before that response is written, and a guest that leaves a request unfinished is cut: the
//! server's own timers forget a connection whose head came in part.

use std::{
    cell::Cell,
    future::Future as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_rt::{
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

use crate::server::Guest;

/// The IP TTL that the next write is to have, and all after it on this connection: retransmissions
/// use the socket's value, so it stays.
pub(crate) type NextTtl = Rc<Cell<Option<u8>>>;

/// The connection.
pub(crate) struct GuestStream {
    /// Its limit is what may still be read until the next write.
    socket: Take<TcpStream>,
    guest: Rc<Guest>,
    next_ttl: NextTtl,
    /// The most that is read between two writes.
    allowance: u64,
    /// Whether the requests read so far had their chance to be answered.
    yielded: bool,
    /// How long may pass from one response to the next.
    idle: Duration,
    /// When that is over.
    deadline: Instant,
    /// Fires at the deadline or before it.
    timer: Pin<Box<Sleep>>,
}

impl GuestStream {
    pub(crate) fn new(socket: TcpStream, guest: Rc<Guest>, allowance: usize, idle: Duration) -> Self {
        let allowance = allowance as u64;
        let deadline = Instant::now() + idle;
        GuestStream {
            idle,
            deadline,
            timer: Box::pin(sleep_until(deadline)),
            socket: socket.take(allowance),
            guest,
            next_ttl: NextTtl::default(),
            allowance,
            yielded: false,
        }
    }

    /// Where a response's IP TTL is asked for.
    pub(crate) fn next_ttl(&self) -> NextTtl {
        self.next_ttl.clone()
    }

    /// Ready when the guest has been silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(io::Error::from(io::ErrorKind::TimedOut));
            }
            // A response has moved the deadline since the timer was set.
            self.timer.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }

    /// Who is at the other end.
    pub(crate) fn guest(&self) -> Rc<Guest> {
        self.guest.clone()
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.socket.limit() == 0 {
            if this.yielded {
                return Poll::Ready(Err(io::Error::other("the request's head is too long")));
            }
            // Many short requests sent at once are answered first, which refills the allowance. If
            // nothing is written until the next read, it is one long request.
            this.yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut this.socket).poll_read(context, buffer) {
            Poll::Pending => this.poll_silence(context).map(Err),
            read => read,
        }
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(ttl) = this.next_ttl.take() {
            this.socket.get_ref().set_ttl(ttl.into())?;
        }
        let count = ready!(Pin::new(this.socket.get_mut()).poll_write(context, bytes))?;
        this.socket.set_limit(this.allowance);
        this.yielded = false;
        this.deadline = Instant::now() + this.idle;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.get_mut()).poll_shutdown(context)
    }
}
