//! A guest's connection, as actix-http reads and writes it.
//!
//! Three things happen at this level because only here it is known what goes over the wire when: no
//! more is read ahead than one request's head may have, beyond which it is refused; the IP TTL of a
//! token's response is set right before that response is written; and a guest that leaves a request
//! unfinished is cut.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_rt::net::TcpStream;
use cumulet_timeouts::{ConnectionTimeout, Limits};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

use crate::{
    http,
    server::{Guest, HEAD_TIME},
};

/// What is read of a head that is too long, and dropped: a connection that is closed while something comes in
/// loses its answer.
const DROPPED: usize = 1 << 20;

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
    /// A head that is too long is being refused.
    refusal: Option<Refusal>,
    timeout: ConnectionTimeout,
}

/// The answer to a head that is too long, past the server, which has not even seen it.
struct Refusal {
    answer: Vec<u8>,
    written: usize,
    shut: bool,
    dropped: usize,
}

impl Refusal {
    /// Writes the answer, then drops what comes. Ready when the connection is to be closed.
    fn poll(&mut self, socket: &mut TcpStream, context: &mut Context<'_>) -> Poll<io::Error> {
        let too_long = || io::Error::other("the request's head is too long");
        while self.written < self.answer.len() {
            match ready!(Pin::new(&mut *socket).poll_write(context, &self.answer[self.written..])) {
                Ok(count) if count > 0 => self.written += count,
                _ => return Poll::Ready(too_long()),
            }
        }
        if !self.shut {
            drop(ready!(Pin::new(&mut *socket).poll_shutdown(context)));
            self.shut = true;
        }
        let mut scratch = [0; 8192];
        while self.dropped < DROPPED {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.dropped += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(too_long())
    }
}

impl GuestStream {
    pub(crate) fn new(socket: TcpStream, guest: Rc<Guest>, allowance: usize, idle: Duration) -> Self {
        let allowance = allowance as u64;
        let limits = Limits {
            idle,
            head: HEAD_TIME.min(idle),
            stall: idle,
        };
        GuestStream {
            timeout: ConnectionTimeout::new(limits),
            socket: socket.take(allowance),
            guest,
            next_ttl: NextTtl::default(),
            allowance,
            yielded: false,
            refusal: None,
        }
    }

    /// Where a response's IP TTL is asked for.
    pub(crate) fn next_ttl(&self) -> NextTtl {
        self.next_ttl.clone()
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
                let guest = &this.guest;
                let refusal = this.refusal.get_or_insert_with(|| {
                    guest.is_refused();
                    Refusal {
                        answer: http::head_too_long_in_full(),
                        written: 0,
                        shut: false,
                        dropped: 0,
                    }
                });
                return match refusal.poll(this.socket.get_mut(), context) {
                    Poll::Ready(error) => Poll::Ready(Err(error)),
                    Poll::Pending => this.timeout.poll_over(context, false).map(Err),
                };
            }
            // Many short requests sent at once are answered first, which refills the allowance. If
            // nothing is written until the next read, it is one long request.
            this.yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match Pin::new(&mut this.socket).poll_read(context, buffer) {
            Poll::Pending => this.timeout.poll_over(context, false).map(Err),
            read => {
                this.timeout.received();
                read
            }
        }
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(ttl) = this.next_ttl.take() {
            this.socket.get_ref().set_ttl(ttl.into())?;
        }
        let Poll::Ready(written) = Pin::new(this.socket.get_mut()).poll_write(context, bytes) else {
            this.timeout.stalled();
            return this.timeout.poll_over(context, false).map(Err);
        };
        let count = written?;
        this.socket.set_limit(this.allowance);
        this.yielded = false;
        this.timeout.written();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().socket.get_mut()).poll_shutdown(context)
    }
}
